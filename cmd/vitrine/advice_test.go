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
		{&client.IntegrityError{}, "at most a beginning of what was sent"},
		{&client.IntegrityError{Report: &client.Report{Level: client.Intact}}, "at most a beginning of what was sent"},
		{&client.IntegrityError{Report: &client.Report{Level: client.Signed}}, "may be altered"},
		{&client.IntegrityError{Report: &client.Report{Level: client.Attested}}, "may be altered"},
		{&client.TrustError{Party: client.PartyProxy}, "--proxy-roots"},
		{&client.TrustError{Party: client.PartyOrigin}, "--roots"},
		{&client.TrustError{Party: client.PartyClient}, ""},
		{&client.TrustError{Party: client.PartyConsent}, ""},
		{&client.TrustError{Party: client.PartyCredentials}, ""},
		{&client.LevelError{Option: "blind"}, ""},
		{&client.LevelError{}, "claimed, blind, direct"},
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
