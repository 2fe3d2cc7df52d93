package tlsmsg

import "slices"

// misplaced says whether an extension that this package knows by number stands in a message that its
// specification does not put it in, which is illegal_parameter (RFC 8446, section 4.2). allowed lists
// those that may stand there. An unknown extension is nobody's business.
func misplaced(list []Extension, allowed ...uint16) error {
	for _, e := range list {
		if known(e.Type) && !slices.Contains(allowed, e.Type) {
			return illegal("extension in a message that it does not belong in")
		}
	}
	return nil
}

// known says whether this package has a name for an extension.
func known(t uint16) bool {
	switch t {
	case ExtensionServerName, ExtensionStatusRequest, ExtensionSupportedGroups, ExtensionSignatureAlgorithms, ExtensionALPN,
		ExtensionSCT, ExtensionClientCertificateType, ExtensionServerCertificateType, ExtensionPadding, ExtensionCompressCertificate,
		ExtensionRecordSizeLimit, ExtensionDelegatedCredential, ExtensionPreSharedKey, ExtensionEarlyData, ExtensionSupportedVersions,
		ExtensionCookie, ExtensionPSKKeyExchangeModes, ExtensionCertificateAuthorities, ExtensionPostHandshakeAuth,
		ExtensionSignatureAlgorithmsCert, ExtensionKeyShare, ExtensionECHOuterExtensions, ExtensionEncryptedClientHello, ExtensionInspection:
		return true
	}
	return false
}
