package frames

// Code points. No registry reserves any of them; they are all here so that a deployment that
// meets a collision changes one file.
const (
	// ALPNH2 and ALPNH3 name HTTP/2 and HTTP/3 whose tunnel streams carry inner sessions.
	ALPNH2 = "itls-h2/1"
	ALPNH3 = "itls-h3/1"
	// ALPNRaw names a hop on which the inner session is simply the next layer.
	ALPNRaw = "itls/1"

	// Protocol is the ":protocol" of the Extended CONNECT that opens a tunnel (RFC 8441).
	Protocol = "itls"

	// SettingITLS says what the sender takes: a mask of [TakesEvidence] and [LateEvidence].
	SettingITLS = 0xe7a1
	// SettingHopBinding carries 31 bits of the hop's exporter; it goes with every SettingITLS.
	SettingHopBinding = 0xe7a2

	// TypeEvidence and TypeVerdict are the types of the two frames.
	TypeEvidence = 0xe1
	TypeVerdict  = 0xe2

	// CodeKilled is the error code, in HTTP/2 and HTTP/3, of a tunnel that the proxy killed.
	CodeKilled = 0xe7a3

	// StatusInspectionRequired answers a CONNECT whose target the proxy would carry only in
	// another mode; inspection-options lists them.
	StatusInspectionRequired = 470
)

// The bits of [SettingITLS].
const (
	TakesEvidence = 0x1 // I take EVIDENCE and VERDICT
	LateEvidence  = 0x2 // send me EVIDENCE in the alternative place
)
