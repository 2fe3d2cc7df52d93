package main

import "vitrine/spec/vectors"

func evidenceFrame() []vectors.Vector {
	full := fill('f', 16383)
	return []vectors.Vector{
		vector("one-last", vectors.Success, "one fragment that is the last", inputs{"last": "true", "fragment": "61"}, u8(1), text("a")),
		vector("one-more", vectors.Success, "a fragment with others to follow", inputs{"last": "false", "fragment": "616263"}, u8(0), text("abc")),
		vector("full", vectors.Success, "the largest payload, 16384 bytes", inputs{"last": "true", "fragment": hexed(full)}, u8(1), full),
		vector("over-full", vectors.TooLarge, "a payload of 16385 bytes", nil, u8(1), more(full, 'f')),
		vector("no-flags", vectors.Truncated, "an empty payload", nil),
		vector("empty-last", vectors.Malformed, "an empty fragment that is the last", nil, u8(1)),
		vector("empty-more", vectors.Malformed, "an empty fragment with others to follow", nil, u8(0)),
		vector("unknown-flag", vectors.Malformed, "a flag that version 1 does not know", nil, u8(2), text("a")),
		vector("unknown-flag-and-last", vectors.Malformed, "the last flag beside an unknown one", nil, u8(0x81), text("a")),
	}
}

// frames joins EVIDENCE payloads; sizes tells them apart again.
func frames(payloads ...[]byte) []byte { return join(payloads...) }

func evidenceFrames() []vectors.Vector {
	sixteen := join(fillFrames(15), text("\x01x"))
	return []vectors.Vector{
		vector("one", vectors.Success, "everything in one frame", inputs{"frames": "4", "evidence": hexed(text("abc"))},
			frames(text("\x01abc"))),
		vector("three", vectors.Success, "fragments of different sizes", inputs{"frames": "2 4 3", "evidence": hexed(text("abcdef"))},
			frames(text("\x00a"), text("\x00bcd"), text("\x01ef"))),
		vector("sixteen", vectors.Success, "as many frames as there may be",
			inputs{"frames": "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2", "evidence": hexed(fill('x', 16))}, sixteen),
		vector("exactly-max", vectors.Success, "evidence of exactly the limit", inputs{"frames": "5 5", "max": "8", "evidence": hexed(text("abcdefgh"))},
			frames(text("\x00abcd"), text("\x01efgh"))),
		vector("seventeen", vectors.TooLarge, "one frame more than there may be",
			inputs{"frames": "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2"}, fillFrames(16), text("\x01x")),
		vector("over-max", vectors.TooLarge, "one byte over the limit, in the second frame", inputs{"frames": "5 6", "max": "8"},
			frames(text("\x00abcd"), text("\x01efghi"))),
		vector("behind-last", vectors.Malformed, "a frame behind the last one", inputs{"frames": "2 2"},
			frames(text("\x01a"), text("\x01b"))),
		vector("empty-inside", vectors.Malformed, "an empty fragment between others", inputs{"frames": "2 1 2"},
			frames(text("\x00a"), text("\x00"), text("\x01b"))),
		vector("no-last", vectors.Truncated, "the stream ends before the last frame", inputs{"frames": "2 2"},
			frames(text("\x00a"), text("\x00b"))),
	}
}

// fillFrames makes n frames with others to follow, one byte each.
func fillFrames(n int) []byte {
	var out []byte
	for range n {
		out = append(out, "\x00x"...)
	}
	return out
}

func lateEvidence() []vectors.Vector {
	return []vectors.Vector{
		vector("alone", vectors.Success, "evidence and nothing behind it", inputs{"evidence": hexed(text("abc")), "rest": ""}, u32(3), text("abc")),
		vector("with-rest", vectors.Success, "the tunnel's first bytes follow in the same DATA", inputs{"evidence": hexed(text("abc")), "rest": hexed(text("\x16\x03"))},
			u32(3), text("abc\x16\x03")),
		vector("exactly-max", vectors.Success, "evidence of exactly the limit", inputs{"max": "4", "evidence": hexed(text("abcd")), "rest": ""}, u32(4), text("abcd")),
		vector("over-max", vectors.TooLarge, "one byte over the limit; refused at the length, before any evidence", inputs{"max": "4"}, u32(5)),
		vector("over-default", vectors.TooLarge, "one byte over 64 KiB", nil, u32(65537)),
		vector("huge", vectors.TooLarge, "the largest length that can be written", nil, u32(1<<32-1)),
		vector("empty", vectors.Malformed, "no evidence at all", nil, u32(0)),
		vector("cut-length", vectors.Truncated, "the stream ends inside the length", nil, cut(u32(3), 1)),
		vector("cut-evidence", vectors.Truncated, "the stream ends inside the evidence", nil, u32(3), text("ab")),
		vector("nothing", vectors.Truncated, "the stream ends at once", nil),
	}
}

func hopBinding() []vectors.Vector {
	return []vectors.Vector{
		vector("zero", vectors.Success, "the top bit is set, so no value is 0", inputs{"binding": "80000000"}, u32(0)),
		vector("low", vectors.Success, "31 bits are kept", inputs{"binding": "f2345678"}, u32(0x72345678)),
		vector("top", vectors.Success, "a top bit that was set stays set", inputs{"binding": "deadbeef"}, u32(0xdeadbeef)),
	}
}
