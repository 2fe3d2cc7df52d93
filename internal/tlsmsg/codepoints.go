package tlsmsg

import (
	"crypto/tls"
	"fmt"
)

// A ContentType is the type of a record (RFC 8446, section 5.1).
type ContentType uint8

// The content types.
const (
	TypeChangeCipherSpec ContentType = 20
	TypeAlert            ContentType = 21
	TypeHandshake        ContentType = 22
	TypeApplicationData  ContentType = 23
)

func (t ContentType) String() string {
	switch t {
	case TypeChangeCipherSpec:
		return "change_cipher_spec"
	case TypeAlert:
		return "alert"
	case TypeHandshake:
		return "handshake"
	case TypeApplicationData:
		return "application_data"
	}
	return fmt.Sprintf("content type %d", uint8(t))
}

// A HandshakeType is the first byte of a handshake message (RFC 8446, section 4).
type HandshakeType uint8

// The handshake types of TLS 1.3, of RFC 9261 and, for evidence about TLS 1.2 origins, of RFC 5246.
const (
	TypeClientHello              HandshakeType = 1
	TypeServerHello              HandshakeType = 2
	TypeNewSessionTicket         HandshakeType = 4
	TypeEndOfEarlyData           HandshakeType = 5
	TypeEncryptedExtensions      HandshakeType = 8
	TypeCertificate              HandshakeType = 11
	TypeServerKeyExchange        HandshakeType = 12
	TypeCertificateRequest       HandshakeType = 13
	TypeServerHelloDone          HandshakeType = 14
	TypeCertificateVerify        HandshakeType = 15
	TypeClientKeyExchange        HandshakeType = 16
	TypeClientCertificateRequest HandshakeType = 17
	TypeFinished                 HandshakeType = 20
	TypeCertificateStatus        HandshakeType = 22
	TypeKeyUpdate                HandshakeType = 24
	TypeCompressedCertificate    HandshakeType = 25
	TypeMessageHash              HandshakeType = 254
)

func (t HandshakeType) String() string {
	switch t {
	case TypeClientHello:
		return "ClientHello"
	case TypeServerHello:
		return "ServerHello"
	case TypeNewSessionTicket:
		return "NewSessionTicket"
	case TypeEndOfEarlyData:
		return "EndOfEarlyData"
	case TypeEncryptedExtensions:
		return "EncryptedExtensions"
	case TypeCertificate:
		return "Certificate"
	case TypeServerKeyExchange:
		return "ServerKeyExchange"
	case TypeCertificateRequest:
		return "CertificateRequest"
	case TypeServerHelloDone:
		return "ServerHelloDone"
	case TypeCertificateVerify:
		return "CertificateVerify"
	case TypeClientKeyExchange:
		return "ClientKeyExchange"
	case TypeClientCertificateRequest:
		return "ClientCertificateRequest"
	case TypeFinished:
		return "Finished"
	case TypeCertificateStatus:
		return "CertificateStatus"
	case TypeKeyUpdate:
		return "KeyUpdate"
	case TypeCompressedCertificate:
		return "CompressedCertificate"
	case TypeMessageHash:
		return "message_hash"
	}
	return fmt.Sprintf("handshake type %d", uint8(t))
}

// The extensions that this package decodes, or that its callers must know by number.
const (
	ExtensionServerName              uint16 = 0
	ExtensionStatusRequest           uint16 = 5
	ExtensionSupportedGroups         uint16 = 10
	ExtensionSignatureAlgorithms     uint16 = 13
	ExtensionALPN                    uint16 = 16
	ExtensionSCT                     uint16 = 18
	ExtensionClientCertificateType   uint16 = 19
	ExtensionServerCertificateType   uint16 = 20
	ExtensionPadding                 uint16 = 21
	ExtensionCompressCertificate     uint16 = 27
	ExtensionRecordSizeLimit         uint16 = 28
	ExtensionDelegatedCredential     uint16 = 34
	ExtensionPreSharedKey            uint16 = 41
	ExtensionEarlyData               uint16 = 42
	ExtensionSupportedVersions       uint16 = 43
	ExtensionCookie                  uint16 = 44
	ExtensionPSKKeyExchangeModes     uint16 = 45
	ExtensionCertificateAuthorities  uint16 = 47
	ExtensionPostHandshakeAuth       uint16 = 49
	ExtensionSignatureAlgorithmsCert uint16 = 50
	ExtensionKeyShare                uint16 = 51
	ExtensionECHOuterExtensions      uint16 = 0xfd00
	ExtensionEncryptedClientHello    uint16 = 0xfe0d
	// ExtensionInspection binds an inner session to the proxy and the hop that carry it. It is
	// from the private-use range.
	ExtensionInspection uint16 = 0xff49
)

// The cipher suites of RFC 9150: authentication and integrity, no confidentiality.
const (
	SuiteSHA256 uint16 = 0xc0b4 // TLS_SHA256_SHA256
	SuiteSHA384 uint16 = 0xc0b5 // TLS_SHA384_SHA384
)

// Versions as they stand on the wire.
const (
	VersionSSL3  uint16 = 0x0300
	VersionTLS12 uint16 = 0x0303
	VersionTLS13 uint16 = 0x0304
)

// PSKModeDHE is psk_dhe_ke (RFC 8446, section 4.2.9).
const PSKModeDHE uint8 = 1

// An Alert is an AlertDescription (RFC 8446, section 6).
type Alert uint8

// The alerts.
const (
	AlertCloseNotify                  Alert = 0
	AlertUnexpectedMessage            Alert = 10
	AlertBadRecordMAC                 Alert = 20
	AlertRecordOverflow               Alert = 22
	AlertHandshakeFailure             Alert = 40
	AlertBadCertificate               Alert = 42
	AlertUnsupportedCertificate       Alert = 43
	AlertCertificateRevoked           Alert = 44
	AlertCertificateExpired           Alert = 45
	AlertCertificateUnknown           Alert = 46
	AlertIllegalParameter             Alert = 47
	AlertUnknownCA                    Alert = 48
	AlertAccessDenied                 Alert = 49
	AlertDecodeError                  Alert = 50
	AlertDecryptError                 Alert = 51
	AlertProtocolVersion              Alert = 70
	AlertInsufficientSecurity         Alert = 71
	AlertInternalError                Alert = 80
	AlertInappropriateFallback        Alert = 86
	AlertUserCanceled                 Alert = 90
	AlertMissingExtension             Alert = 109
	AlertUnsupportedExtension         Alert = 110
	AlertUnrecognizedName             Alert = 112
	AlertBadCertificateStatusResponse Alert = 113
	AlertUnknownPSKIdentity           Alert = 115
	AlertCertificateRequired          Alert = 116
	AlertNoApplicationProtocol        Alert = 120
)

// AboutClient says whether a server that sends a means the client's certificate, or its lack.
func (a Alert) AboutClient() bool {
	switch a {
	case AlertBadCertificate, AlertUnsupportedCertificate, AlertCertificateRevoked, AlertCertificateExpired,
		AlertCertificateUnknown, AlertUnknownCA, AlertCertificateRequired, AlertAccessDenied:
		return true
	}
	return false
}

// String is the name in RFC 8446.
func (a Alert) String() string {
	switch a {
	case AlertCloseNotify:
		return "close_notify"
	case AlertUnexpectedMessage:
		return "unexpected_message"
	case AlertBadRecordMAC:
		return "bad_record_mac"
	case AlertRecordOverflow:
		return "record_overflow"
	case AlertHandshakeFailure:
		return "handshake_failure"
	case AlertBadCertificate:
		return "bad_certificate"
	case AlertUnsupportedCertificate:
		return "unsupported_certificate"
	case AlertCertificateRevoked:
		return "certificate_revoked"
	case AlertCertificateExpired:
		return "certificate_expired"
	case AlertCertificateUnknown:
		return "certificate_unknown"
	case AlertIllegalParameter:
		return "illegal_parameter"
	case AlertUnknownCA:
		return "unknown_ca"
	case AlertAccessDenied:
		return "access_denied"
	case AlertDecodeError:
		return "decode_error"
	case AlertDecryptError:
		return "decrypt_error"
	case AlertProtocolVersion:
		return "protocol_version"
	case AlertInsufficientSecurity:
		return "insufficient_security"
	case AlertInternalError:
		return "internal_error"
	case AlertInappropriateFallback:
		return "inappropriate_fallback"
	case AlertUserCanceled:
		return "user_canceled"
	case AlertMissingExtension:
		return "missing_extension"
	case AlertUnsupportedExtension:
		return "unsupported_extension"
	case AlertUnrecognizedName:
		return "unrecognized_name"
	case AlertBadCertificateStatusResponse:
		return "bad_certificate_status_response"
	case AlertUnknownPSKIdentity:
		return "unknown_psk_identity"
	case AlertCertificateRequired:
		return "certificate_required"
	case AlertNoApplicationProtocol:
		return "no_application_protocol"
	}
	return fmt.Sprintf("alert %d", uint8(a))
}

// SuiteName is the name of a cipher suite, those of RFC 9150 included, which crypto/tls does not
// know.
func SuiteName(id uint16) string {
	switch id {
	case SuiteSHA256:
		return "TLS_SHA256_SHA256"
	case SuiteSHA384:
		return "TLS_SHA384_SHA384"
	}
	return tls.CipherSuiteName(id)
}

// GroupName is the name that TLS's registry has for a group, where crypto/tls has one of its own; "" for
// 0, which is no group.
func GroupName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	}
	return id.String()
}
