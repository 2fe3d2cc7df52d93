package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// A Mode is one way in which a [Liar] lies.
type Mode string

// The modes. [Mode.About] says what each does.
const (
	ModeFlip          Mode = "flip"
	ModeDrop          Mode = "drop"
	ModeInsert        Mode = "insert"
	ModeReorder       Mode = "reorder"
	ModeReplay        Mode = "replay"
	ModeTruncate      Mode = "truncate"
	ModeSplice        Mode = "splice"
	ModeSwapCert      Mode = "swap-cert"
	ModeFakeEvidence  Mode = "fake-evidence"
	ModeStaleEvidence Mode = "stale-evidence"
	ModeStripToken    Mode = "strip-token"
	ModeOtherProxy    Mode = "other-proxy"
	ModeOtherHop      Mode = "other-hop"
	ModeNoAnswer      Mode = "no-answer"
	ModeFalseVerdict  Mode = "false-verdict"

	ModeSplitAlter           Mode = "split-alter"
	ModeSplitReplay          Mode = "split-replay"
	ModeSplitOtherConnection Mode = "split-other-connection"
)

type aboutMode struct {
	mode  Mode
	about string // completes "it ..."
}

func modes() []aboutMode {
	return []aboutMode{
		{ModeFlip, "changes one bit of the response"},
		{ModeDrop, "leaves a record of the response out"},
		{ModeInsert, "puts a record of its own making in front of the response"},
		{ModeReorder, "swaps the first two records of the response, or the halves of a single one"},
		{ModeReplay, "sends a record a second time"},
		{ModeTruncate, "ends the tunnel inside the response"},
		{ModeSplice, "puts a record of its own tunnel to the origin in the place of the response"},
		{ModeSwapCert, "answers the inner session itself, with a certificate of its own making"},
		{ModeFakeEvidence, "shows evidence that another key than the origin's signed"},
		{ModeStaleEvidence, "shows the evidence of an earlier CONNECT, with a new date"},
		{ModeStripToken, "does not offer the origin inner sessions, and says that the origin has none"},
		{ModeOtherProxy, "shows evidence that the origin made for another proxy"},
		{ModeOtherHop, "shows evidence of another connection to the origin than carries the tunnel"},
		{ModeNoAnswer, "hides the origin's answer to who reads, and shows a weaker proof"},
		{ModeFalseVerdict, "kills the tunnel with a verdict that its key did not sign"},
		{ModeSplitAlter, "changes the content-type and one bit of the content of a response in split mode"},
		{ModeSplitReplay, "answers a request in split mode with the response to an earlier request of its own"},
		{ModeSplitOtherConnection, "takes a request in split mode to a server of its own, and not over the evidence's connection"},
	}
}

// Modes lists all modes, in the order in which they are documented.
func Modes() []Mode {
	var list []Mode
	for _, m := range modes() {
		list = append(list, m.mode)
	}
	return list
}

// Split says whether the mode lies about exchanges in split mode, and tells the truth about tunnels. What it lies
// about can only be had where the proxy's policy allows split.
func (m Mode) Split() bool {
	return m == ModeSplitAlter || m == ModeSplitReplay || m == ModeSplitOtherConnection
}

// ParseMode reads a mode's name. The error lists those that there are.
func ParseMode(name string) (Mode, error) {
	if m := Mode(name); slices.Contains(Modes(), m) {
		return m, nil
	}
	var names []string
	for _, m := range Modes() {
		names = append(names, string(m))
	}
	return "", fmt.Errorf("%q is none of %s", name, strings.Join(names, ", "))
}

// About says in one line what the mode does; it completes "the proxy ...". It is empty for what is no mode.
func (m Mode) About() string {
	for _, known := range modes() {
		if known.mode == m {
			return known.about
		}
	}
	return ""
}
