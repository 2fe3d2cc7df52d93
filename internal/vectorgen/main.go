// Package main writes the files of spec/vectors. Run it as go generate ./spec/vectors. Call [write] with
// the folder, [kinds] for the vectors. Each vector is built byte by byte from the specification, never by
// our encoders: a mistake of theirs must not become the rule.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"vitrine/spec/vectors"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: vectorgen DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "vectorgen:", err)
		os.Exit(1)
	}
}

// kinds maps the folder's name to its vectors.
func kinds() map[string][]vectors.Vector {
	return map[string][]vectors.Vector{
		"evidence-frame":        evidenceFrame(),
		"evidence-frames":       evidenceFrames(),
		"late-evidence":         lateEvidence(),
		"evidence":              evidenceForm(),
		"verified-evidence":     slices.Concat(transcripts(), authenticators()),
		"evidence-path":         evidencePath(),
		"hop2-authenticator":    hop2Authenticator(),
		"authenticator-request": authenticatorRequest(),
		"inspection-offer":      inspectionOffer(),
		"inspection-answer":     inspectionAnswer(),
		"hop-id":                hopID(),
		"transcript-random":     transcriptRandom(),
		"verdict":               verdict(),
		"verdict-tbs":           verdictTBS(),
		"signed-verdict":        signedVerdict(),
		"settings":              settings(),
		"inner-record":          innerRecord(),
		"inner-schedule":        innerSchedule(),
		"proxy-certificate":     proxyCertificate(),
		"proxy-status":          proxyStatus(),
		"via":                   via(),
		"hop-binding":           hopBinding(),
		"authority":             authority(),
		"canonical-authority":   canonicalAuthority(),
		"evidence-request":      evidenceRequest(),
		"inspection-options":    inspectionOptions(),
		"response-signature":    responseSignature(),
	}
}

// write replaces the folders of all kinds below dir.
func write(dir string) error {
	for kind, list := range kinds() {
		folder := filepath.Join(dir, kind)
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for _, v := range list {
			data, err := v.Append(nil)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", kind, v.Name, err)
			}
			if err := os.WriteFile(filepath.Join(folder, v.Name), data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// inputs pairs keys with values.
type inputs = map[string]string

// vector says in which order a generator's line is read: name, expectation, comment, inputs, bytes.
func vector(name, expect, comment string, in inputs, b ...[]byte) vectors.Vector {
	return vectors.Vector{Name: name, Expect: expect, Comment: comment, Inputs: in, Bytes: join(b...)}
}
