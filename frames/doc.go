// Package frames is the wire vocabulary of Vitrine: the code points, and the two frames EVIDENCE and
// VERDICT with the rules for cutting them up and putting them together. Parse and append stand side by
// side, one file per frame; nothing here does I/O, keeps keys or knows a stream.
//
// Call [FragmentEvidence] and [Evidence.Append] to write evidence, [ParseEvidence] and an
// [EvidenceAssembler] to read it. Where the peer asked for the alternative place, call
// [AppendLateEvidence] and a [LateEvidenceReader] instead. [SignedVerdict] and [VerdictTBS] are made and
// checked by whoever holds keys; [AppendVerdict] and [SplitVerdict] are for carriers, which only name the
// stream. [Parse] reads a frame of either type; [PeerSettings] judges the two settings.
//
// Payloads are the same in HTTP/2 and HTTP/3. Every error of this package is an [*Error].
package frames
