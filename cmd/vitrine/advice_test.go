package main

import (
	"errors"
	"strings"
	"testing"

	"vitrine/client"
)

func TestAdviceNamesWhatTheUserCanDo(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string // "" for none
	}{
		{errors.New("anything else"), ""},
		{usagef("see its help"), ""},
		{&client.KilledError{}, "operator"},
		{&client.IntegrityError{}, "--report"},
		{&client.TrustError{Party: client.PartyProxy}, "--proxy-roots"},
		{&client.TrustError{Party: client.PartyOrigin}, "--roots"},
		{&client.TrustError{Party: client.PartyClient}, ""},
		{&client.TrustError{Party: client.PartyConsent}, ""},
		{&client.TrustError{Party: client.PartyCredentials}, ""},
		{&client.LevelError{Option: "blind"}, ""},
		{&client.LevelError{}, "intact, blind, direct"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502}, "name and port"},
		{&client.UnreachableError{Party: client.PartyProxy}, "--connect-to"},
		{&client.UnreachableError{Party: client.PartyProxy, Status: 403}, "operator"},
		{errors.Join(&client.UnreachableError{Party: client.PartyProxy}, usagef("a file")), ""},
	} {
		for _, err := range []error{tt.err, wrap(tt.err)} {
			if got := advice(err); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
			}
		}
	}
}
