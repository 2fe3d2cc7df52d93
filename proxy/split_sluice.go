package proxy

import (
	"errors"
	"net/http"
	"sync"
)

// A sluice is one direction of an exchange in split mode: what was fed to the reader waits here until that has
// released it, and whoever takes it sends it on.
type sluice struct {
	feeding sync.Mutex // orders what is fed; it is taken before mu

	mu      sync.Mutex
	change  sync.Cond // anything below has changed
	items   []item
	bytes   int   // cost of items
	fed     int64 // to the reader
	allowed int64 // by the reader
	content int64 // bytes that were taken
	budget  heldBytes
	copies  int // buffers that were taken of budget
	closed  bool
}

// An item is what leaves at once.
type item struct {
	kind    itemKind
	end     int64 // it may leave when so much is released
	status  int   // of a response's head
	header  http.Header
	content []byte
	last    bool // of a head: nothing follows; the reader knows it too
}

// itemCost is what an item costs beyond its content, so that one-byte pieces (data dribble, CVE-2019-9511)
// count for what they take.
const itemCost = 256

func (it *item) cost() int {
	if it.kind != itemContent {
		return 0 // there are as many as interim responses are allowed, and two
	}
	return itemCost + len(it.content)
}

type itemKind uint8

const (
	itemHead itemKind = iota
	itemContent
	itemEnd // header is the trailer section
)

func (g *sluice) init(budget heldBytes) {
	g.change.L = &g.mu
	g.budget = budget
}

// put adds what was fed as n bytes.
func (g *sluice) put(n int, it item, allowed int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.fed += int64(n)
	it.end = g.fed
	g.allowed = max(g.allowed, allowed)
	g.bytes += it.cost()
	defer g.change.Broadcast()
	if n := len(g.items); n > 0 && it.kind == itemContent {
		// Small pieces that are held become a large one.
		if last := &g.items[n-1]; last.kind == itemContent && last.end > g.allowed && len(last.content)+len(it.content) <= ownBuffer {
			last.end, last.content = it.end, append(last.content, it.content...)
			g.bytes -= itemCost
			return
		}
	}
	g.items = append(g.items, it)
}

// allow lets more leave.
func (g *sluice) allow(upTo int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowed = max(g.allowed, upTo)
	g.change.Broadcast()
}

// take waits for the next item that may leave.
func (g *sluice) take() (item, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case g.closed:
			return item{}, errSluiceClosed
		case len(g.items) > 0 && g.items[0].end <= g.allowed:
			it := g.items[0]
			g.items[0] = item{}
			g.items = g.items[1:]
			g.bytes -= it.cost()
			g.content += int64(len(it.content))
			if g.bytes < keepBytes {
				g.giveBack()
			}
			g.change.Broadcast()
			return it, nil
		}
		g.change.Wait()
	}
}

// room waits until more content may be read. What waits to be sent is bounded as if it were a window. What
// an inspector holds goes on to the bounds of what may be held, since it would else wait for itself.
func (g *sluice) room() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case g.closed:
			return errSluiceClosed
		case g.bytes < keepBytes+g.copies*ownBuffer:
			return nil
		case len(g.items) > 0 && g.items[0].end > g.allowed && g.budget.take():
			g.copies++
			return nil
		}
		g.change.Wait()
	}
}

func (g *sluice) giveBack() {
	for ; g.copies > 0; g.copies-- {
		g.budget.Credit(ownBuffer)
	}
}

// errSluiceClosed is what a sluice says behind close. Why it was closed is the exchange's to say.
var errSluiceClosed = errors.New("the exchange has ended")

// close lets nothing more through.
func (g *sluice) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.items, g.bytes = nil, 0
	g.giveBack()
	g.change.Broadcast()
}

// count is how many bytes of content were taken.
func (g *sluice) count() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.content
}
