package itls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// A flow is a session of ours with another stack, as internal/interop recorded it.
type flow struct {
	Suite   string       `json:"suite"`
	Resumed bool         `json:"resumed"`
	Retried bool         `json:"retried"`
	Client  string       `json:"client_says"`
	Server  string       `json:"server_says"`
	KeyLog  []string     `json:"key_log"`
	Records []flowRecord `json:"records"`
}

type flowRecord struct {
	From   string `json:"from"`
	Record string `json:"record"`
}

// A replay reads a flow as somebody with its key log does.
type replay struct {
	*testing.T
	suite      *suite
	secrets    map[string][]byte
	halves     map[string]*half // by sender
	first      []byte           // the first ClientHello, until the suite is known
	transcript hash.Hash
	retried    bool
	resumed    bool
	said       map[string]*bytes.Buffer
	closed     map[string]bool
	finished   map[string]bool
	updates    int
	alerts     []tlsmsg.Alert
	signed     int // CertificateVerify messages
	context    map[string]*tlsmsg.Certificate
}

// What OpenSSL and we said to each other, without OpenSSL: each record authenticates under the logged secrets
// and is what we would have sent, no changed bit of it does, and Finished and CertificateVerify hold over the transcript.
func TestFlows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "flows", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no flows: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var f flow
			if err := json.Unmarshal(text, &f); err != nil {
				t.Fatal(err)
			}
			replayFlow(t, name, &f)
		})
	}
}

func replayFlow(t *testing.T, name string, f *flow) {
	t.Helper()
	r := &replay{
		T: t, secrets: map[string][]byte{}, halves: map[string]*half{"client": {}, "server": {}}, closed: map[string]bool{}, finished: map[string]bool{},
		said: map[string]*bytes.Buffer{"client": {}, "server": {}}, context: map[string]*tlsmsg.Certificate{},
	}
	for _, line := range f.KeyLog {
		label, secret, _ := strings.Cut(line, " ")
		r.secrets[label] = r.hex(secret)
	}
	for _, record := range f.Records {
		r.record(record.From, r.hex(record.Record))
	}
	if !r.finished["client"] || !r.finished["server"] || r.retried != f.Retried || r.resumed != f.Resumed {
		t.Errorf("finished %v, retried %t, resumed %t", r.finished, r.retried, r.resumed)
	}
	if want := map[string]uint16{"TLS_SHA256_SHA256": tlsmsg.SuiteSHA256, "TLS_SHA384_SHA384": tlsmsg.SuiteSHA384}[f.Suite]; r.suite.id != want {
		t.Errorf("suite %#04x, want %s", r.suite.id, f.Suite)
	}
	signed := 1
	if strings.Contains(name, "client-certificate") {
		signed = 2
	}
	if f.Resumed {
		signed = 0
	}
	if r.signed != signed {
		t.Errorf("%d signatures, want %d", r.signed, signed)
	}
	if r.said["client"].String() != f.Client || r.said["server"].String() != f.Server {
		t.Errorf("the client said %q, the server %q", r.said["client"], r.said["server"])
	}
	if strings.HasSuffix(name, "-keyupdate") {
		// OpenSSL cannot take new keys of these suites, and says so.
		if r.updates != 1 || !slices.Equal(r.alerts, []tlsmsg.Alert{tlsmsg.AlertInternalError}) {
			t.Errorf("%d KeyUpdates, closed %v, alerts %v", r.updates, r.closed, r.alerts)
		}
		return
	}
	if !r.closed["client"] || !r.closed["server"] || r.alerts != nil || r.updates > 0 {
		t.Errorf("closed %v, alerts %v, %d KeyUpdates", r.closed, r.alerts, r.updates)
	}
}

func (r *replay) hex(s string) []byte {
	r.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		r.Fatal(err)
	}
	return b
}

func (r *replay) record(from string, record []byte) {
	r.Helper()
	h, err := tlsmsg.ParseRecordHeader(record)
	if err != nil {
		r.Fatal(err)
	}
	typ, content := h.Type, record[tlsmsg.RecordHeaderLen:]
	side := r.halves[from]
	if side.mac != nil && typ == tlsmsg.TypeApplicationData {
		typ, content = r.open(side, record)
	}
	if r.closed[from] {
		r.Fatalf("%s: %v behind close_notify", from, typ)
	}
	switch typ {
	case tlsmsg.TypeChangeCipherSpec:
	case tlsmsg.TypeApplicationData:
		r.said[from].Write(content)
	case tlsmsg.TypeAlert:
		if alert := tlsmsg.Alert(content[1]); alert != tlsmsg.AlertCloseNotify {
			r.alerts = append(r.alerts, alert)
		}
		r.closed[from] = true
	case tlsmsg.TypeHandshake:
		for len(content) > 0 {
			msg, rest, err := tlsmsg.SplitHandshake(content, tlsmsg.MaxHandshake)
			if err != nil {
				r.Fatalf("%s: %v", from, err)
			}
			r.message(from, msg)
			content = rest
		}
	}
}

// open opens a record, finds it to be what seal makes unless it is padded, and finds that no changed bit passes.
func (r *replay) open(side *half, record []byte) (tlsmsg.ContentType, []byte) {
	r.Helper()
	seq := side.seq
	for i := range record {
		for _, bit := range []byte{1, 0x80} {
			record[i] ^= bit
			side.seq = seq
			if _, _, err := side.open(record); err == nil {
				r.Fatalf("record %d passes with byte %d changed", seq, i)
			}
			record[i] ^= bit
		}
	}
	side.seq = seq
	typ, content, err := side.open(record)
	if err != nil {
		r.Fatal(err)
	}
	side.seq = seq
	again, err := side.seal(nil, typ, content)
	if err != nil {
		r.Fatal(err)
	}
	if len(again) == len(record) && !bytes.Equal(again, record) {
		r.Errorf("record %d: we would have sent %x, and not %x", seq, again, record)
	}
	return typ, content
}

func (r *replay) keys(from, label string) {
	r.Helper()
	r.halves[from].setSecret(r.suite, r.secrets[strings.ToUpper(from)+label])
}

func (r *replay) message(from string, msg []byte) {
	r.Helper()
	const handshake, traffic = "_HANDSHAKE_TRAFFIC_SECRET", "_TRAFFIC_SECRET_0"
	if r.finished[from] {
		if tlsmsg.MessageType(msg) == tlsmsg.TypeKeyUpdate {
			r.updates++
			if err := r.halves[from].update(); err != nil {
				r.Fatal(err)
			}
		}
		return
	}
	switch typ := tlsmsg.MessageType(msg); typ {
	case tlsmsg.TypeClientHello:
		if r.transcript == nil {
			r.first = bytes.Clone(msg)
			return
		}
	case tlsmsg.TypeServerHello:
		h, err := tlsmsg.ParseServerHello(msg)
		if err != nil {
			r.Fatal(err)
		}
		r.suite = suiteByID(h.CipherSuite)
		if h.IsHRR {
			r.retried = true
			r.transcript = retryTranscript(r.suite, r.first)
			break
		}
		if r.transcript == nil {
			r.transcript = r.suite.hash()
			r.transcript.Write(r.first)
		}
		r.resumed = h.SelectedPSK != nil
		r.keys("client", handshake)
		r.keys("server", handshake)
	case tlsmsg.TypeCertificate:
		m, err := tlsmsg.ParseCertificate(bytes.Clone(msg))
		if err != nil {
			r.Fatal(err)
		}
		r.context[from] = m
	case tlsmsg.TypeCertificateVerify:
		r.verify(from, msg)
	case tlsmsg.TypeFinished:
		want, err := r.suite.finished(r.secrets[strings.ToUpper(from)+handshake], r.transcript.Sum(nil))
		if err != nil {
			r.Fatal(err)
		}
		if m, err := tlsmsg.ParseFinished(msg); err != nil || !bytes.Equal(m.VerifyData, want) {
			r.Errorf("%s: Finished does not hold: %v", from, err)
		}
		r.finished[from] = true
		r.transcript.Write(msg)
		r.keys(from, traffic)
		return
	}
	r.transcript.Write(msg)
}

func (r *replay) verify(from string, msg []byte) {
	r.Helper()
	m, err := tlsmsg.ParseCertificateVerify(msg)
	if err != nil {
		r.Fatal(err)
	}
	chain, err := parseChain([][]byte{r.context[from].Entries[0].Cert})
	if err != nil {
		r.Fatal(err)
	}
	context := map[string]string{"client": clientVerifyContext, "server": serverVerifyContext}[from]
	if err := tlsmsg.Verify(chain[0].PublicKey, m.Scheme, tlsmsg.SignedContent(context, r.transcript.Sum(nil)), m.Signature); err != nil {
		r.Errorf("%s: CertificateVerify does not hold: %v", from, err)
	}
	r.signed++
}
