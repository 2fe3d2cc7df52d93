package interop

import (
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"vitrine/internal/tlsmsg"
)

// A row is something that two stacks must agree on. Its test runs in each column.
type row struct {
	name string
	role role // the only one that it is for; default: both
	test func(r *run)
}

// role is ours.
type role string

const (
	either   role = ""
	asClient role = "client"
	asServer role = "server"
)

// A column is a role of ours and a suite.
type column struct {
	role  role
	suite uint16
}

var columns = []column{
	{asClient, tlsmsg.SuiteSHA256},
	{asClient, tlsmsg.SuiteSHA384},
	{asServer, tlsmsg.SuiteSHA256},
	{asServer, tlsmsg.SuiteSHA384},
}

// suiteName is the name of a suite in other stacks' words.
func suiteName(id uint16) string {
	if id == tlsmsg.SuiteSHA384 {
		return "TLS_SHA384_SHA384"
	}
	return "TLS_SHA256_SHA256"
}

// A run is a row's test in a column.
type run struct {
	*testing.T
	column
	*party
	word string // for the matrix; "ok" when empty
}

// say puts a word into the matrix, for what is neither right nor a failure of ours.
func (r *run) say(word string) {
	r.word = word
	r.Log(word)
}

// check runs rows against a peer and prints the matrix.
func check(t *testing.T, peer string, p *party, rows []row) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tas client\t\tas server\t\n\tSHA-256\tSHA-384\tSHA-256\tSHA-384\n", peer)
	for _, row := range rows {
		fmt.Fprint(w, row.name)
		for _, column := range columns {
			word := "-"
			if row.role == either || row.role == column.role {
				name := fmt.Sprintf("%s/as %s/%s", row.name, column.role, suiteName(column.suite))
				r := &run{column: column, party: p}
				ran := false
				passed := t.Run(name, func(t *testing.T) {
					ran = true
					r.T = t
					row.test(r)
				})
				switch {
				case !ran:
					word = "(not run)"
				case !passed:
					word = "FAILS"
				case r.word != "":
					word = r.word
				default:
					word = "ok"
				}
			}
			fmt.Fprint(w, "\t", word)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("\n%s", table.String())
}

// absent skips what is not installed, where nobody can miss it.
func absent(t *testing.T, peer, how string) {
	t.Helper()
	line := strings.Repeat("*", 100)
	t.Skipf("\n%s\n* NOT TESTED against %s: %s\n%s", line, peer, how, line)
}
