package tlsmsg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// spec: INS-1
func TestInspectionOfferLayout(t *testing.T) {
	o := &InspectionOffer{Proxies: [][32]byte{fill(0xaa)}, Authority: "a:1", Nonce: fill(0xbb)}
	data, err := o.Append(nil)
	want := "01" + "20" + strings.Repeat("aa", 32) + "03613a31" + strings.Repeat("bb", 32)
	if err != nil || hex.EncodeToString(data) != want {
		t.Fatalf("%x, %v", data, err)
	}
	back, err := ParseInspectionOffer(data)
	if err != nil || !reflect.DeepEqual(back, o) {
		t.Fatalf("%+v, %v", back, err)
	}
}

// spec: INS-1
func TestInspectionAnswerLayout(t *testing.T) {
	a := sampleAnswer()
	data, err := a.Append(nil)
	want := "01" + "01" + "0304" + "1301" + "09" + hex.EncodeToString([]byte("itls-h2/1")) +
		strings.Repeat("04", 32) + "0000019424f8608e" + "00000258"
	if err != nil || hex.EncodeToString(data) != want {
		t.Fatalf("%x, %v", data, err)
	}
	back, err := ParseInspectionAnswer(data)
	if err != nil || !reflect.DeepEqual(back, a) {
		t.Fatalf("%+v, %v", back, err)
	}
}

// spec: INS-1 INS-2 INS-3 INS-4
func TestInspectionOfferIsStrict(t *testing.T) {
	good, err := sampleOffer().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := ParseInspectionOffer(good[:n]); err == nil {
			t.Errorf("the first %d bytes were taken", n)
		}
	}
	set := func(i int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[i:], b)
		return c
	}
	authority := 2 + 64 + 1
	for name, data := range map[string][]byte{
		"trailing byte":     append(bytes.Clone(good), 0),
		"version 0":         set(0, 0),
		"version 2":         set(0, 2),
		"no proxies":        append([]byte{1, 0}, good[2+64:]...),
		"half a proxy":      append([]byte{1, 16}, good[2+48:]...),
		"six proxies":       append(append([]byte{1, 192}, make([]byte, 192)...), good[2+64:]...),
		"empty authority":   append(append(bytes.Clone(good[:2+64]), 0), good[authority+18:]...),
		"upper case":        set(authority, 'O'),
		"control character": set(authority, '\n'),
		"beyond ASCII":      set(authority, 0xc3),
	} {
		var p *ParseError
		if _, err := ParseInspectionOffer(data); !errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]*InspectionOffer{
		"no proxies":     {Authority: "a:1"},
		"six proxies":    {Authority: "a:1", Proxies: make([][32]byte, 6)},
		"no authority":   {Proxies: make([][32]byte, 1)},
		"upper case":     {Proxies: make([][32]byte, 1), Authority: "A:1"},
		"long authority": {Proxies: make([][32]byte, 1), Authority: strings.Repeat("a", 256)},
	} {
		if _, err := o.Append(nil); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	five := &InspectionOffer{Proxies: make([][32]byte, MaxProxies), Authority: strings.Repeat("a", 255)}
	data, err := five.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseInspectionOffer(data); err != nil || !reflect.DeepEqual(back, five) {
		t.Errorf("five proxies: %v", err)
	}
}

// spec: INS-1 INS-4 INS-5
func TestInspectionAnswerIsStrict(t *testing.T) {
	good, err := sampleAnswer().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := ParseInspectionAnswer(good[:n]); err == nil {
			t.Errorf("the first %d bytes were taken", n)
		}
	}
	set := func(i int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[i:], b)
		return c
	}
	for name, data := range map[string][]byte{
		"trailing byte":   append(bytes.Clone(good), 0),
		"version 2":       set(0, 2),
		"hop_peer 2":      set(1, 2),
		"time to the end": set(len(good)-12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		var p *ParseError
		if _, err := ParseInspectionAnswer(data); !errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*InspectionAnswer){
		"hop_peer 2":        func(a *InspectionAnswer) { a.HopPeer = 2 },
		"long ALPN":         func(a *InspectionAnswer) { a.HopALPN = strings.Repeat("a", 256) },
		"time before 1970":  func(a *InspectionAnswer) { a.Time = time.UnixMilli(-1) },
		"no time":           func(a *InspectionAnswer) { a.Time = time.Time{} },
		"year 10000":        func(a *InspectionAnswer) { a.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"negative lifetime": func(a *InspectionAnswer) { a.Lifetime = -time.Second },
		"long lifetime":     func(a *InspectionAnswer) { a.Lifetime = (1 << 32) * time.Second },
	} {
		a := sampleAnswer()
		change(a)
		if _, err := a.Append(nil); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

// spec: INS-12
func TestHopIDCoversTheWholeContext(t *testing.T) {
	long := bytes.Repeat([]byte{9}, 48)
	if want := sha256.Sum256(append([]byte("vitrine hop v1\x00"), long...)); HopID(long) != want {
		t.Errorf("%x", HopID(long))
	}
	if HopID(long) == HopID(long[:32]) {
		t.Error("a SHA-384 hop's context was cut to 32 bytes")
	}
}
