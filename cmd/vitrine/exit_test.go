package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"vitrine/client"
)

func TestExitStatusOfEachError(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything else"), 1},
		{context.DeadlineExceeded, 1},
		{usagef("a flag"), 2},
		{&client.KilledError{}, 20},
		{&client.LevelError{}, 21},
		{&client.IntegrityError{}, 22},
		{&client.TrustError{Party: client.PartyProxy}, 23},
		{&client.TrustError{Party: client.PartyConsent}, 23},
		{&client.TrustError{Party: client.PartyCredentials}, 23},
		{&client.TrustError{Party: client.PartyClient}, 23},
		{&client.TrustError{Party: client.PartyOrigin}, 24},
		{&client.UnreachableError{Party: client.PartyProxy}, 25},
		{&client.UnreachableError{Party: client.PartyOrigin}, 25},
	} {
		for _, err := range []error{tt.err, wrap(tt.err)} {
			if got := exitCode(err); got != tt.want {
				t.Errorf("%T: exit status %d, want %d", tt.err, got, tt.want)
			}
		}
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wrapped: %w", err)
}

func TestAPeersWordsStayOnOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nvitrine: fine\r\n":  "a vitrine: fine",
		"a\x1b[2Jb":             "a [2Jb",
		"a\u202eb\u2066c\u2028": "a b c",
		"a\xffb":                "a?b",
		"caf\u00e9 \u4e16":      "caf\u00e9 \u4e16",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
