package main

import (
	"strings"

	"vitrine/spec/vectors"
)

func verdict() []vectors.Vector {
	good := join(u64(5), vec16(text("tbs")), u16(0x0403), vec16(text("sig")))
	// 8 + 2 + 2 + 2 bytes are not tbs and not signature.
	const room = 16384 - 14
	return []vectors.Vector{
		vector("plain", vectors.Success, "a verdict on stream 5", inputs{"stream": "5", "tbs": hexed(text("tbs")), "scheme": "0403", "signature": hexed(text("sig"))}, good),
		vector("stream-zero", vectors.Success, "stream 0 is a request stream in HTTP/3", inputs{"stream": "0", "tbs": "61", "scheme": "0807", "signature": "62"},
			u64(0), vec16(text("a")), u16(0x0807), vec16(text("b"))),
		vector("largest-stream", vectors.Success, "2^62-1", inputs{"stream": "4611686018427387903", "tbs": "61", "scheme": "0807", "signature": "62"},
			u64(1<<62-1), vec16(text("a")), u16(0x0807), vec16(text("b"))),
		vector("empty-signature", vectors.Success, "well-formed; no verifier accepts it", inputs{"stream": "1", "tbs": "61", "scheme": "0807", "signature": ""},
			u64(1), vec16(text("a")), u16(0x0807), vec16(nil)),
		vector("largest", vectors.Success, "the largest payload, 16384 bytes", inputs{"stream": "1", "tbs": hexed(fill('t', room-64)), "scheme": "0807", "signature": hexed(fill('s', 64))},
			u64(1), vec16(fill('t', room-64)), u16(0x0807), vec16(fill('s', 64))),
		vector("over-largest", vectors.TooLarge, "a payload of 16385 bytes", nil, u64(1), vec16(fill('t', room-64)), u16(0x0807), vec16(fill('s', 65))),
		vector("stream-over", vectors.Malformed, "2^62", nil, u64(1<<62), vec16(text("a")), u16(0x0807), vec16(text("b"))),
		vector("empty-tbs", vectors.Malformed, "nothing was signed", nil, u64(1), vec16(nil), u16(0x0807), vec16(text("b"))),
		vector("behind-signature", vectors.Malformed, "a byte behind the signature", nil, more(good, 0)),
		vector("cut-stream", vectors.Truncated, "it ends inside the stream", nil, good[:7]),
		vector("cut-tbs", vectors.Truncated, "it ends inside the tbs", nil, good[:12]),
		vector("cut-scheme", vectors.Truncated, "it ends inside the scheme", nil, good[:14]),
		vector("cut-signature", vectors.Truncated, "it ends inside the signature", nil, cut(good, 1)),
		vector("empty", vectors.Truncated, "an empty payload", nil),
	}
}

// tbs holds the fields in their order; a generator changes the one that its vector is about.
type tbs struct {
	version            uint8
	authority          string
	ms                 uint64
	direction          uint8
	toOrigin, toClient uint64
	reason             uint16
	rule, detail       string
}

func goodTBS() tbs {
	return tbs{1, "origin.example:443", 1764000000123, 1, 517, 16406, 1, "no-secrets", "the response holds the word secret"}
}

func (t tbs) bytes() []byte {
	return join(u8(t.version), fill(0xaa, 32), fill(0xbb, 32), vec8(text(t.authority)), u64(t.ms), u8(t.direction),
		u64(t.toOrigin), u64(t.toClient), u16(t.reason), vec8(text(t.rule)), vec16(text(t.detail)))
}

func verdictTBS() []vectors.Vector {
	common := func(in inputs) inputs {
		all := inputs{
			"proxy leaf": strings.Repeat("aa", 32), "nonce": strings.Repeat("bb", 32), "authority": "origin.example:443", "time ms": "1764000000123",
			"direction": "1", "released to origin": "517", "released to client": "16406", "reason": "1",
			"rule": hexed(text("no-secrets")), "detail": hexed(text("the response holds the word secret")),
		}
		for key, value := range in {
			all[key] = value
		}
		return all
	}
	with := func(change func(*tbs)) []byte {
		t := goodTBS()
		change(&t)
		return t.bytes()
	}
	good := goodTBS().bytes()
	long := strings.Repeat("d", 1024)
	return []vectors.Vector{
		vector("plain", vectors.Success, "an inspector's rule on a response", common(nil), good),
		vector("redacted", vectors.Success, "what an origin gets: neither rule nor detail", common(inputs{"rule": "", "detail": ""}),
			with(func(t *tbs) { t.rule, t.detail = "", "" })),
		vector("to-origin", vectors.Success, "a request was refused", common(inputs{"direction": "0"}), with(func(t *tbs) { t.direction = 0 })),
		vector("unknown-reason", vectors.Success, "a reason that version 1 does not name is taken", common(inputs{"reason": "65535"}), with(func(t *tbs) { t.reason = 65535 })),
		vector("utf-8", vectors.Success, "rule and detail are UTF-8", common(inputs{"detail": hexed(text("grüße, 世界"))}), with(func(t *tbs) { t.detail = "grüße, 世界" })),
		vector("epoch", vectors.Success, "the earliest time", common(inputs{"time ms": "0"}), with(func(t *tbs) { t.ms = 0 })),
		vector("year-9999", vectors.Success, "the latest time", common(inputs{"time ms": "253402300799999"}), with(func(t *tbs) { t.ms = 253402300799999 })),
		vector("longest", vectors.Success, "every text at its limit",
			common(inputs{"authority": strings.Repeat("a", 255), "rule": hexed(fill('r', 255)), "detail": hexed(text(long))}),
			with(func(t *tbs) { t.authority, t.rule, t.detail = strings.Repeat("a", 255), strings.Repeat("r", 255), long })),
		vector("most-released", vectors.Success, "counters at their limit", common(inputs{"released to origin": "18446744073709551615", "released to client": "18446744073709551615"}),
			with(func(t *tbs) { t.toOrigin, t.toClient = 1<<64-1, 1<<64-1 })),
		vector("version-0", vectors.Malformed, "version 0", nil, with(func(t *tbs) { t.version = 0 })),
		vector("version-2", vectors.Malformed, "version 2", nil, with(func(t *tbs) { t.version = 2 })),
		vector("no-authority", vectors.Malformed, "an empty authority", nil, with(func(t *tbs) { t.authority = "" })),
		vector("space-in-authority", vectors.Malformed, "a space in the authority", nil, with(func(t *tbs) { t.authority = "origin.example :443" })),
		vector("utf-8-authority", vectors.Malformed, "an authority that is not ASCII", nil, with(func(t *tbs) { t.authority = "bücher.example:443" })),
		vector("year-10000", vectors.Malformed, "a time past the year 9999", nil, with(func(t *tbs) { t.ms = 253402300800000 })),
		vector("negative-time", vectors.Malformed, "a time that is negative when read as signed", nil, with(func(t *tbs) { t.ms = 1 << 63 })),
		vector("direction-2", vectors.Malformed, "a direction that does not exist", nil, with(func(t *tbs) { t.direction = 2 })),
		vector("no-reason", vectors.Malformed, "reason 0", nil, with(func(t *tbs) { t.reason = 0 })),
		vector("escape-in-detail", vectors.Malformed, "a terminal's escape sequence", nil, with(func(t *tbs) { t.detail = "\x1b[2Jall is well" })),
		vector("newline-in-rule", vectors.Malformed, "a line break", nil, with(func(t *tbs) { t.rule = "a\nb" })),
		vector("bidi-in-detail", vectors.Malformed, "a bidirectional override, U+202E", nil, with(func(t *tbs) { t.detail = "abc\u202edef" })),
		vector("not-utf-8", vectors.Malformed, "a detail that is not UTF-8", nil, with(func(t *tbs) { t.detail = "\xff" })),
		vector("long-detail", vectors.TooLarge, "a detail of 1025 bytes", nil, with(func(t *tbs) { t.detail = long + "d" })),
		vector("behind-detail", vectors.Malformed, "a byte behind the detail", nil, more(good, 0)),
		vector("cut", vectors.Truncated, "it ends inside the detail", nil, cut(good, 1)),
		vector("cut-nonce", vectors.Truncated, "it ends inside the nonce", nil, good[:64]),
		vector("empty", vectors.Truncated, "no bytes", nil),
	}
}
