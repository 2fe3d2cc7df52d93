package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"
)

// output is where a response goes: standard output or -o.
type output struct {
	std   stdio
	file  string // "" and "-" are standard output
	heads bool   // -i, -I

	w       io.Writer
	f       *os.File
	created bool // the file was not there before
	began   bool // something was written
}

// open finds out that the file can be written before anything is sent. It leaves what is in the
// file until there is something to put in its place.
func (o *output) open() error {
	o.w = o.std.out
	if o.file == "" || o.file == "-" {
		return nil
	}
	_, err := os.Lstat(o.file)
	o.created = os.IsNotExist(err)
	if o.f, err = os.OpenFile(o.file, os.O_CREATE|os.O_WRONLY, 0o666); err != nil {
		return usagef("-o: %v", err)
	}
	o.w = o.f
	return nil
}

// begin drops what was in the file.
func (o *output) begin() error {
	if o.began || o.f == nil {
		return nil
	}
	o.began = true
	if info, err := o.f.Stat(); err != nil || !info.Mode().IsRegular() {
		return err // a pipe or a device has nothing to drop
	}
	return o.f.Truncate(0)
}

// close closes the file, and removes it where it was made for nothing.
func (o *output) close() error {
	if o.f == nil {
		return nil
	}
	err := o.f.Close()
	if o.created && !o.began {
		err = os.Remove(o.file)
	}
	o.f = nil
	return err
}

// head prints a response head where the user asked for it.
func (o *output) head(resp *http.Response) error {
	if !o.heads {
		return nil
	}
	if err := o.begin(); err != nil {
		return err
	}
	for _, line := range headLines(resp) {
		if _, err := fmt.Fprintf(o.w, "%s\r\n", line); err != nil {
			return err
		}
	}
	_, err := io.WriteString(o.w, "\r\n")
	return err
}

// headLines are the status line and the fields of a response, sorted by name: their order on the
// wire is not kept by net/http.
func headLines(resp *http.Response) []string {
	lines := []string{resp.Proto + " " + resp.Status}
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, v := range resp.Header[name] {
			lines = append(lines, name+": "+v)
		}
	}
	return lines
}

// body copies the body as it arrives, and counts and hashes what was written.
func (o *output) body(body io.Reader, rep *report) error {
	if err := o.begin(); err != nil {
		return err
	}
	hash := sha256.New()
	meter := newMeter(o.std.err, o.f != nil)
	defer meter.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			written, werr := o.w.Write(buf[:n])
			hash.Write(buf[:written])
			rep.bytes += int64(written)
			meter.show(rep.bytes)
			if werr != nil {
				err = fmt.Errorf("fetch: writing the output: %w", werr)
			}
		}
		if err != nil {
			rep.bodySum = hash.Sum(nil)
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// A meter shows on a terminal how much arrived, while the output goes elsewhere.
type meter struct {
	w    io.Writer
	last time.Time
	used bool
}

func newMeter(w io.Writer, toFile bool) *meter {
	f, ok := w.(*os.File)
	if !ok || !toFile {
		return &meter{}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return &meter{}
	}
	return &meter{w: w, last: time.Now()}
}

func (m *meter) show(n int64) {
	if m.w == nil || time.Since(m.last) < 500*time.Millisecond {
		return
	}
	m.last, m.used = time.Now(), true
	fmt.Fprintf(m.w, "\r%.1f MB received", float64(n)/1e6)
}

func (m *meter) end() {
	if m.used {
		fmt.Fprintln(m.w)
	}
}
