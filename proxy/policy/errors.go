package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// maxProblems bounds a list of problems: each costs more than the byte that can be one.
const maxProblems = 1000

// Errors are the problems of a policy file, in its order: at least one, and at most 1,000.
type Errors struct {
	List []*Error
}

// Error is one line, with the first problem and how many there are beside it.
func (e *Errors) Error() string {
	s := e.List[0].Error()
	switch n := len(e.List) - 1; n {
	case 0:
	case 1:
		s += " (and 1 more problem)"
	default:
		s += fmt.Sprintf(" (and %d more problems)", n)
	}
	return s
}

// Unwrap is List.
func (e *Errors) Unwrap() []error {
	list := make([]error, len(e.List))
	for i, err := range e.List {
		list[i] = err
	}
	return list
}

// An Error is one problem of a policy file.
type Error struct {
	File string // as it was named
	// Line and Column say where, from 1; columns count bytes. Both are 0 where no place is meant.
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// problems collects errors and warnings about one text.
type problems struct {
	file     string
	lines    lines
	list     []*Error
	warnings []Warning
}

// add reports a problem at a byte offset of the text.
func (p *problems) add(offset int, format string, args ...any) {
	if len(p.list) == maxProblems {
		return
	}
	line, column := p.lines.position(offset)
	p.list = append(p.list, &Error{File: p.file, Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) warn(offset int, rule, format string, args ...any) {
	line, column := p.lines.position(offset)
	p.warnings = append(p.warnings, Warning{Line: line, Column: column, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// err is what was collected, or nil.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Errors{p.list}
}

// lines are the offsets at which the lines of a text begin.
type lines []int

func linesOf(text []byte) lines {
	l := lines{0}
	for i, c := range text {
		if c == '\n' {
			l = append(l, i+1)
		}
	}
	return l
}

func (l lines) position(offset int) (line, column int) {
	i, found := slices.BinarySearch(l, offset)
	if !found {
		i--
	}
	return i + 1, offset - l[i] + 1
}
