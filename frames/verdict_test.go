package frames_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"vitrine/frames"
)

func goodTBS() *frames.VerdictTBS {
	return &frames.VerdictTBS{
		ProxyLeaf: [32]byte{1}, Nonce: [32]byte{2}, Authority: "origin.example:443", Time: time.UnixMilli(1764000000123).UTC(),
		Direction: frames.ToClient, ReleasedToOrigin: 517, ReleasedToClient: 16406,
		Reason: frames.ReasonInspector, Rule: "no-secrets", Detail: "the response holds the word secret",
	}
}

// spec: FRM-19 FRM-23
func TestEveryPrefixOfAVerdictIsTruncated(t *testing.T) {
	tbs, err := goodTBS().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range tbs {
		if _, err := frames.ParseVerdictTBS(tbs[:n]); !errors.Is(err, frames.ErrTruncated) {
			t.Errorf("tbs, %d of %d bytes: %v", n, len(tbs), err)
		}
	}
	payload, err := frames.Verdict{Stream: 7, SignedVerdict: frames.SignedVerdict{TBS: tbs, Scheme: 0x0403, Signature: []byte("signature")}}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range payload {
		if _, err := frames.ParseVerdict(payload[:n]); !errors.Is(err, frames.ErrTruncated) {
			t.Errorf("verdict, %d of %d bytes: %v", n, len(payload), err)
		}
	}
}

// spec: FRM-31
func TestWhatAReceiverRefusesIsNotWritten(t *testing.T) {
	for name, change := range map[string]func(*frames.VerdictTBS){
		"no authority":        func(t *frames.VerdictTBS) { t.Authority = "" },
		"long authority":      func(t *frames.VerdictTBS) { t.Authority = strings.Repeat("a", 256) },
		"authority not ASCII": func(t *frames.VerdictTBS) { t.Authority = "bücher.example:443" },
		"time before 1970":    func(t *frames.VerdictTBS) { t.Time = time.UnixMilli(-1) },
		"no time":             func(t *frames.VerdictTBS) { t.Time = time.Time{} },
		"time after 9999":     func(t *frames.VerdictTBS) { t.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"direction":           func(t *frames.VerdictTBS) { t.Direction = 2 },
		"no reason":           func(t *frames.VerdictTBS) { t.Reason = 0 },
		"long rule":           func(t *frames.VerdictTBS) { t.Rule = strings.Repeat("r", 256) },
		"long detail":         func(t *frames.VerdictTBS) { t.Detail = strings.Repeat("d", 1025) },
		"rule with newline":   func(t *frames.VerdictTBS) { t.Rule = "a\nb" },
		"detail not UTF-8":    func(t *frames.VerdictTBS) { t.Detail = "\xff" },
	} {
		tbs := goodTBS()
		change(tbs)
		if b, err := tbs.Append(nil); err == nil {
			t.Errorf("%s: written as %x", name, b)
		}
	}
	for name, v := range map[string]frames.Verdict{
		"empty tbs":  {Stream: 1},
		"stream":     {Stream: 1 << 62, SignedVerdict: frames.SignedVerdict{TBS: []byte("t")}},
		"over frame": {Stream: 1, SignedVerdict: frames.SignedVerdict{TBS: make([]byte, 16384)}},
		"over both":  {Stream: 1, SignedVerdict: frames.SignedVerdict{TBS: make([]byte, 1<<13), Signature: make([]byte, 1<<13)}},
	} {
		if b, err := v.Append(nil); err == nil {
			t.Errorf("%s: written in %d bytes", name, len(b))
		}
	}
}

// spec: FRM-7
func TestSignedVerdictLeavesRoomForTheStream(t *testing.T) {
	largest := frames.SignedVerdict{TBS: make([]byte, 1<<13), Signature: make([]byte, frames.MaxFramePayload-14-1<<13)}
	signed, err := largest.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if payload := frames.AppendVerdict(nil, 1, signed); len(payload) != frames.MaxFramePayload {
		t.Fatalf("payload of %d bytes", len(payload))
	}
	if _, err := frames.ParseSignedVerdict(signed); err != nil {
		t.Error(err)
	}
	if _, err := frames.ParseSignedVerdict(append(signed, 0)); !errors.Is(err, frames.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

// spec: FRM-30
func TestCleanTextMakesWhatAVerdictTakes(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"plain", 255, "plain"},
		{"", 255, ""},
		{"two\r\nlines", 255, "two\ufffd\ufffdlines"},
		{"\x1b[2Jhidden", 255, "\ufffd[2Jhidden"},
		{"a\u202eb", 255, "a\ufffdb"},
		{"bad \xff utf-8", 255, "bad \ufffd utf-8"},
		{"grüße", 4, "grü"},
		{"grüße", 3, "gr"},
		{"plain", 0, ""},
		{"plain", -1, ""},
	} {
		if got := frames.CleanText(c.in, c.limit); got != c.want {
			t.Errorf("CleanText(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestNamesOfDirectionsAndReasons(t *testing.T) {
	for got, want := range map[string]string{
		frames.ToOrigin.String(): "to origin", frames.ToClient.String(): "to client", frames.Direction(9).String(): "direction 9",
		frames.ReasonInspector.String(): "inspector", frames.ReasonOpaque.String(): "opaque", frames.ReasonMalformed.String(): "malformed",
		frames.ReasonInnerTLS.String(): "inner-tls", frames.ReasonLimit.String(): "limit", frames.ReasonPolicy.String(): "policy",
		frames.ReasonShutdown.String(): "shutdown", frames.Reason(99).String(): "reason 99",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzVerdict(f *testing.F) {
	seedVectors(f, "verdict")
	f.Fuzz(func(t *testing.T, payload []byte) {
		v, err := frames.ParseVerdict(payload)
		if err != nil {
			return
		}
		if len(v.TBS) == 0 || len(v.TBS)+len(v.Signature) > len(payload) {
			t.Fatalf("tbs of %d and signature of %d bytes out of %d", len(v.TBS), len(v.Signature), len(payload))
		}
		again, err := v.Append(nil)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("encodes to %x (%v), was %x", again, err, payload)
		}
	})
}

func FuzzVerdictTBS(f *testing.F) {
	seedVectors(f, "verdict-tbs")
	f.Fuzz(func(t *testing.T, p []byte) {
		tbs, err := frames.ParseVerdictTBS(p)
		if err != nil {
			return
		}
		if tbs.Authority == "" || tbs.Reason == 0 || tbs.Direction > frames.ToClient || tbs.Time.Year() < 1970 || tbs.Time.Year() > 9999 {
			t.Fatalf("accepted %+v", tbs)
		}
		if frames.CleanText(tbs.Detail, 1024) != tbs.Detail || frames.CleanText(tbs.Rule, 255) != tbs.Rule {
			t.Fatalf("accepted rule %q, detail %q", tbs.Rule, tbs.Detail)
		}
		again, err := tbs.Append(nil)
		if err != nil || !bytes.Equal(again, p) {
			t.Fatalf("encodes to %x (%v), was %x", again, err, p)
		}
	})
}

func FuzzCleanText(f *testing.F) {
	f.Add("grüße\n\x1b", 4)
	f.Add("\xff\xff\xff\xff", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		got := frames.CleanText(s, limit)
		if len(got) > max(limit, 0) || !utf8.ValidString(got) || frames.CleanText(got, limit) != got {
			t.Fatalf("CleanText(%q, %d) = %q", s, limit, got)
		}
		tbs := goodTBS()
		tbs.Detail = frames.CleanText(s, 1024)
		if _, err := tbs.Append(nil); err != nil {
			t.Fatal(err)
		}
	})
}
