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
		{&client.IntegrityError{Err: client.ErrNoSignature, Report: &client.Report{Level: client.Signed}}, "nothing vouches for what arrived"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502}, "name and port"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "connection_refused"}, "name and port"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "tls_protocol_error"}, "no version or cipher suite in common"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "tls_alert_received", Reached: true}, "no TLS version or cipher suite"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "http_protocol_error", Reached: true}, "its operator has to mend that"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "http_response_header_section_size", Reached: true}, "less in its header fields"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 502, ProxyError: "connection_terminated", Reached: true}, "may have had its effect"},
		{&client.UnreachableError{Party: client.PartyOrigin, Status: 503, ProxyError: "destination_unavailable", Reached: true}, "try again later"},
		{&client.UnreachableError{Party: client.PartyOrigin, Reached: true}, ""},
		{&client.UnreachableError{Party: client.PartyProxy, Status: 502, From: "a.example", NextProxy: "b.example"}, "the operator of a.example"},
		{&client.UnreachableError{Party: client.PartyProxy}, "--connect-to"},
		{&client.UnreachableError{Party: client.PartyProxy, Status: 403}, "operator"},
		{errors.Join(&client.UnreachableError{Party: client.PartyProxy}, usagef("a file")), ""},
	} {
		for _, err := range []error{tt.err, wrap(tt.err)} {
			if got := advice(err); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
			}
			if !strings.Contains(tt.want, "name and port") && tt.want != "no version or cipher suite in common" && strings.Contains(advice(err), "name and port") {
				t.Errorf("%v: the address is not what is wrong", err)
			}
		}
	}
}
