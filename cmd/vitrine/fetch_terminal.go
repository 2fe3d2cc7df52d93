package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// errNoTerminal is what a question ends with where nobody can be asked.
var errNoTerminal = errors.New("no terminal to ask on")

// A terminal is the user's own, whatever standard input and output are: they may be the request's body
// and the response's. It is opened when there is first something to ask, because a stored grant needs none.
type terminal struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

func (t *terminal) open() (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil && t.err == nil {
		if t.file, t.err = os.OpenFile("/dev/tty", os.O_RDWR, 0); t.err != nil {
			t.err = fmt.Errorf("%w: %w", errNoTerminal, t.err)
		}
	}
	return t.file, t.err
}

func (t *terminal) Read(p []byte) (int, error) {
	f, err := t.open()
	if err != nil {
		return 0, err
	}
	n, err := f.Read(p)
	if err != nil {
		f.WriteString("\n") // nobody typed one: what is printed next would stand behind the question
	}
	return n, err
}

func (t *terminal) Write(p []byte) (int, error) {
	f, err := t.open()
	if err != nil {
		return 0, err
	}
	return f.Write(p)
}

// DiscardInput drops what was typed before a question: it was meant for something else.
func (t *terminal) DiscardInput() error {
	f, err := t.open()
	if err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = discardInput(fd) }); err != nil {
		return err
	}
	return failed
}

// SetReadDeadline lets Ctrl-C and --max-time break a question off.
func (t *terminal) SetReadDeadline(deadline time.Time) error {
	f, err := t.open()
	if err != nil {
		return err
	}
	return f.SetReadDeadline(deadline)
}

// Close closes the terminal if it was needed.
func (t *terminal) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}
