package inspect

import (
	"fmt"
	"strings"

	"vitrine/frames"
)

// The rules of the inner TLS state machine ([frames.ReasonInnerTLS]). The names are stable: verdicts
// carry them to both ends.
const (
	RuleRecord         = "tls-record"         // a record header or length that TLS 1.3 does not have
	RulePlaintext      = "tls-plaintext"      // an unprotected record behind ServerHello
	RuleCCS            = "tls-ccs"            // a change_cipher_spec but the one that RFC 8446, D.4, allows
	RuleInnerType      = "tls-inner-type"     // an inner content type but 21 to 23, or none
	RuleEmptyRecord    = "tls-empty-record"   // an empty handshake fragment
	RuleInterleaved    = "tls-interleaved"    // another record inside a fragmented handshake message
	RuleMessage        = "tls-message"        // a handshake message that does not parse
	RuleOrder          = "tls-order"          // a message where RFC 8446 has another
	RuleKeyChange      = "tls-key-change"     // bytes in the record of a message that changes keys
	RuleEarlyData      = "tls-early-data"     // 0-RTT: a server that rejects it skips bytes that were shown here
	RuleECH            = "tls-ech"            // a second ClientHello that cannot be read
	RuleVersion        = "tls-version"        // not TLS 1.3
	RuleSuite          = "tls-suite"          // not a suite of RFC 9150, or not the one that was agreed
	RuleServerHello    = "tls-server-hello"   // a ServerHello that does not answer its ClientHello
	RuleHelloRetry     = "tls-hello-retry"    // a second ClientHello that is not the first one's
	RuleSNI            = "tls-sni"            // server_name is not the CONNECT's host
	RuleALPN           = "tls-alpn"           // a protocol that was not offered
	RuleClientData     = "tls-client-data"    // application data of the client before its Finished
	RulePostHandshake  = "tls-post-handshake" // a message that may not follow the handshake
	RuleAlert          = "tls-alert"          // an alert that is not one
	RuleAfterClose     = "tls-after-close"    // a record behind close_notify or a fatal alert
	RuleOfferMissing   = "offer-missing"      // no `inspection` extension: the client may not know who reads
	RuleOfferProxy     = "offer-proxy"        // the offer names other proxies
	RuleOfferNonce     = "offer-nonce"        // the offer is of another CONNECT
	RuleOfferAuthority = "offer-authority"    // the offer is for another origin
)

// The rules of the HTTP reader ([frames.ReasonMalformed]).
const (
	RuleRequestLine      = "http-request-line"
	RuleStatusLine       = "http-status-line"
	RuleVersionHTTP      = "http-version" // neither HTTP/1.1 nor HTTP/1.0
	RuleMethod           = "http-method"  // no token, or HEAD or CONNECT in other letters
	RuleConnect          = "http-connect" // CONNECT: a tunnel in the tunnel
	RuleTarget           = "http-target"
	RuleEmptyLine        = "http-empty-line" // an empty line where a message should begin
	RuleBareLF           = "http-bare-lf"
	RuleBareCR           = "http-bare-cr"
	RuleObsFold          = "http-obs-fold"
	RuleFieldName        = "http-field-name"  // no token, white space before the colon, or a framing field spelled with "_"
	RuleFieldValue       = "http-field-value" // NUL or another control character
	RuleMissingHost      = "http-missing-host"
	RuleDuplicateHost    = "http-duplicate-host"
	RuleHost             = "http-host" // Host or an absolute target is not the tunnel's authority
	RuleLengthAndChunked = "http-cl-te"
	RuleContentLength    = "http-content-length" // repeated, a list, signed, padded with zeros, too large
	RuleTransferEncoding = "http-transfer-encoding"
	RuleChunked10        = "http-10-chunked" // Transfer-Encoding with HTTP/1.0
	RuleConnection       = "http-connection" // Connection names a framing field, or is no list of tokens
	RuleExpect           = "http-expect"     // another expectation, or a body behind a refusal
	RuleChunkSize        = "http-chunk-size"
	RuleChunkExtension   = "http-chunk-ext"
	RuleChunkEnd         = "http-chunk-end" // no CRLF behind a chunk's data
	RuleTrailer          = "http-trailer"   // a framing field in a trailer section, or Trailer is no list of tokens
	RuleNoBody           = "http-no-body"   // a body for a status that has none
	RuleUnsolicited      = "http-unsolicited"
	RuleAfterLast        = "http-after-close" // a request behind the connection's last exchange
	RuleContentCoding    = "content-coding"   // a content coding that does not decode, for inspectors
	RuleTruncated        = "truncated"        // the direction ended inside what an inspector holds
)

// RuleOpaque ([frames.ReasonOpaque]) is what cannot be read: an application protocol but http/1.1, a 101
// response, and pipelined requests.
const RuleOpaque = "opaque"

// The rules of the budgets ([frames.ReasonLimit]). Each is a field of [Limits].
const (
	RuleIdleRecords   = "idle-records"
	RuleKeyUpdates    = "key-updates"
	RuleTickets       = "tickets"
	RuleHandshakeSize = "handshake-size"
	RuleHeldBytes     = "held-bytes"
	RuleHoldTimeout   = "hold-timeout"
	RuleHeadSize      = "http-head-size"
	RuleFields        = "http-fields"
	RuleInterim       = "http-interim"
	RuleRatio         = "decompression-ratio"
)

// The rules that speak for inspectors ([frames.ReasonInspector]).
const (
	RuleInspector = "inspector"       // stands for the rule of a Kill that named none
	RulePanic     = "inspector-panic" // an inspector panicked: nobody judged what it was shown
)

// reasonOf is the class of one of the rules above.
func reasonOf(rule string) frames.Reason {
	switch rule {
	case RuleOpaque:
		return frames.ReasonOpaque
	case RuleInspector, RulePanic:
		return frames.ReasonInspector
	case RuleIdleRecords, RuleKeyUpdates, RuleTickets, RuleHandshakeSize, RuleHeldBytes, RuleHoldTimeout,
		RuleHeadSize, RuleFields, RuleInterim, RuleRatio:
		return frames.ReasonLimit
	}
	if strings.HasPrefix(rule, "tls-") || strings.HasPrefix(rule, "offer-") {
		return frames.ReasonInnerTLS
	}
	return frames.ReasonMalformed
}

// kill makes the error for a rule of this package. Details name what was seen only where that is no
// secret of either end.
func (s *side) kill(rule, format string, args ...any) *KillError {
	detail := format
	if len(args) > 0 {
		detail = fmt.Sprintf(format, args...)
	}
	return &KillError{Reason: reasonOf(rule), Direction: s.dir, Rule: rule, Detail: cut(detail, maxReason)}
}
