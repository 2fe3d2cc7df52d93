package policy

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A node is a TOML value and where it is. The decoder of the TOML package has places for syntax errors
// alone, and it stops at the first value of a wrong type: so the tree is built here, from its parser.
type node struct {
	kind  unstable.Kind // InlineTable for every table, Array for every array
	at    int           // offset of the value, or of its key or header where it is a table or an array
	text  string        // of a string, decoded; of another scalar, as written
	token string        // of a string, as written, with its quotes
	items []*node
	keys  map[string]*node
	names []key // of keys, in the order of the file
}

// A key is a name in a table and where it is first.
type key struct {
	name string
	at   int
}

// readDocument reads text, which must be valid TOML. What is not is reported, and there is no tree.
func readDocument(text []byte, p *problems) *node {
	// The parser below knows nothing of keys that are defined twice.
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		var bad *toml.DecodeError
		if !errors.As(err, &bad) {
			p.add(0, "%s", strings.TrimPrefix(err.Error(), "toml: "))
			return nil
		}
		line, column := bad.Position()
		p.list = append(p.list, &Error{File: p.file, Line: line, Column: column, Message: strings.TrimPrefix(bad.Error(), "toml: ")})
		return nil
	}
	var parser unstable.Parser
	parser.Reset(text)
	root := table(0)
	current := root
	for parser.NextExpression() {
		e := parser.Expression()
		switch e.Kind {
		case unstable.Table:
			current = root.descend(e.Key())
		case unstable.ArrayTable:
			current = root.extend(e.Key())
		case unstable.KeyValue:
			current.set(&parser, e)
		}
		if current == nil {
			break
		}
	}
	if err := parser.Error(); err != nil || current == nil {
		p.add(0, "a key is used for two things")
		return nil
	}
	return root
}

func table(at int) *node {
	return &node{kind: unstable.InlineTable, at: at, keys: make(map[string]*node)}
}

// child is the value of a key; it is made by create where there is none. Of an array of tables it is the
// last table. Nil: the value is neither.
func (n *node) child(k *unstable.Node, create func(at int) *node) *node {
	name, at := string(k.Data), int(k.Raw.Offset)
	c := n.keys[name]
	if c == nil {
		c = create(at)
		n.keys[name] = c
		n.names = append(n.names, key{name, at})
	}
	return c
}

// inside is the table that n stands for in a path of keys, nil when it is none.
func (n *node) inside() *node {
	if n.kind == unstable.Array && len(n.items) > 0 {
		n = n.items[len(n.items)-1]
	}
	if n.kind != unstable.InlineTable {
		return nil
	}
	return n
}

// descend is the table of a path of keys below n.
func (n *node) descend(path unstable.Iterator) *node {
	for n != nil && path.Next() {
		n = n.child(path.Node(), table).inside()
	}
	return n
}

// extend adds a table to the array of tables of a path of keys below n, and returns it.
func (n *node) extend(path unstable.Iterator) *node {
	for n != nil && path.Next() {
		if !path.IsLast() {
			n = n.child(path.Node(), table).inside()
			continue
		}
		list := n.child(path.Node(), func(at int) *node { return &node{kind: unstable.Array, at: at} })
		if list.kind != unstable.Array {
			return nil
		}
		t := table(int(path.Node().Raw.Offset))
		list.items = append(list.items, t)
		return t
	}
	return nil
}

// set puts the value of e, a KeyValue, below n.
func (n *node) set(parser *unstable.Parser, e *unstable.Node) {
	for path := e.Key(); n != nil && path.Next(); {
		if !path.IsLast() {
			n = n.child(path.Node(), table).inside()
			continue
		}
		n.child(path.Node(), func(at int) *node { return valueOf(parser, e.Value(), at) })
	}
}

// valueOf is the tree of v, whose key is at offset at.
func valueOf(parser *unstable.Parser, v *unstable.Node, at int) *node {
	n := &node{kind: v.Kind, at: at}
	switch v.Kind {
	case unstable.Array:
		for items := v.Children(); items.Next(); {
			n.items = append(n.items, valueOf(parser, items.Node(), at))
		}
	case unstable.InlineTable:
		n.keys = make(map[string]*node)
		for pairs := v.Children(); pairs.Next(); {
			n.set(parser, pairs.Node())
		}
	default:
		n.at, n.text = int(v.Raw.Offset), string(v.Data)
		n.token = string(parser.Raw(v.Raw))
	}
	return n
}

// offset is where in the file byte i of the decoded string n.text is.
func (n *node) offset(i int) int {
	start, escapes := opening(n.token)
	if !escapes {
		return n.at + start + i
	}
	for decoded := 0; decoded < i && start < len(n.token); {
		from, to := unit(n.token[start:])
		start, decoded = start+from, decoded+to
	}
	return n.at + start
}

// opening is how many bytes of a string token come before its text, and whether that has escapes.
func opening(token string) (n int, escapes bool) {
	escapes = token[0] == '"'
	if len(token) < 6 || token[:3] != strings.Repeat(token[:1], 3) {
		return 1, escapes
	}
	n = 3
	if strings.HasPrefix(token[n:], "\r\n") {
		n += 2
	} else if token[n] == '\n' {
		n++
	}
	return n, escapes
}

// unit is how many bytes the first character or escape of s, the rest of a basic string, has there, and how
// many it stands for.
func unit(s string) (from, to int) {
	if s[0] != '\\' || len(s) < 2 {
		return 1, 1
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	switch {
	case digits > 0:
		end := min(2+digits, len(s))
		r, err := strconv.ParseUint(s[2:end], 16, 32)
		if err != nil || r > unicode.MaxRune {
			return end, 1
		}
		return end, utf8.RuneLen(rune(r))
	case strings.ContainsRune(" \t\r\n", rune(s[1])):
		// A backslash at the end of a line takes all white space that follows with it.
		return 1 + len(s[1:]) - len(strings.TrimLeft(s[1:], " \t\r\n")), 0
	}
	return 2, 1
}
