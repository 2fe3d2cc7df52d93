package main

import (
	"errors"

	"vitrine/client"
)

// advice says what the user can do about err, as the end of its line; "" where err says that itself.
func advice(err error) string {
	var (
		usage       *usageError
		killed      *client.KilledError
		integrity   *client.IntegrityError
		trust       *client.TrustError
		level       *client.LevelError
		unreachable *client.UnreachableError
	)
	switch {
	case errors.As(err, &usage):
	case errors.As(err, &killed):
		return "; the proxy's operator knows its rules"
	case errors.As(err, &integrity) && changeable(integrity.Report):
		return "; do not use what arrived, if anything did: it may be altered, and --report FILE keeps the particulars"
	case errors.As(err, &integrity):
		return "; what arrived is at most a beginning of what was sent, and --report FILE keeps the particulars"
	case errors.As(err, &trust):
		return trustAdvice[trust.Party]
	case errors.As(err, &level) && level.Option == "":
		return "; the levels are intact, signed, attested, claimed, blind, direct"
	case errors.As(err, &unreachable):
		switch {
		case unreachable.Party == client.PartyOrigin:
			return "; check its name and port, and remember that with a proxy it is the proxy that dials"
		case unreachable.Status != 0:
			return "; the proxy's operator decides what it carries"
		}
		return "; check --proxy, or name its address with --connect-to"
	}
	return ""
}

// changeable says that the proxy could change the exchange that r is about.
func changeable(r *client.Report) bool {
	return r != nil && (r.Level == client.Signed || r.Level == client.Attested || r.Level == client.Claimed || r.Signature != nil)
}

// trustAdvice is advice for those whom nobody vouches for. The errors about the others say it themselves.
var trustAdvice = map[client.Party]string{
	client.PartyProxy:  "; if this is your proxy, --proxy-roots has to name the roots that vouch for it",
	client.PartyOrigin: "; if this is your origin, --roots has to name the roots that vouch for it, here and at the proxy",
}
