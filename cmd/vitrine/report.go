package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"vitrine/client"
)

// A report is what --report writes: the client's report, with what this command knows besides.
type report struct {
	client  *client.Report
	status  int
	bytes   int64
	bodySum []byte
}

// write writes the report to file and returns err, which the report tells. The file appears whole or
// not at all.
func (r *report) write(file string, err error) error {
	if file == "" {
		return err
	}
	if r.client == nil {
		r.client = client.ReportOfError(err)
	}
	var out client.Report
	if r.client != nil {
		out = *r.client
	}
	out.Status, out.Bytes, out.Exit = r.status, r.bytes, exitCode(err)
	out.BodySHA256 = hex.EncodeToString(r.bodySum)
	if err != nil {
		out.Error = oneLine(err.Error())
	}
	text, jerr := json.MarshalIndent(&out, "", "  ")
	if jerr != nil {
		return errors.Join(err, jerr)
	}
	if werr := writeWhole(file, append(printableJSON(text), '\n')); werr != nil {
		return errors.Join(err, usagef("--report: %v", werr))
	}
	return err
}

// reportFlag finds --report on a command line that cannot be parsed: the report is written on every
// exit.
func reportFlag(words []string) string {
	file := ""
	for i, word := range words {
		if value, ok := strings.CutPrefix(word, "--report="); ok {
			file = value
		} else if word == "--report" && i+1 < len(words) {
			file = words[i+1]
		} else if word == "--" {
			break
		}
	}
	return file
}

// writeWhole replaces file in one step; a device or a pipe is written to directly.
func writeWhole(file string, text []byte) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(file, text, 0o644)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".vitrine-report-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
