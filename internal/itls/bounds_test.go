package itls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// The bounds of the specification, in its own numbers and not in the code's names for them: at each of them
// a session goes on. What is beyond is in the table of alerts.
//
// spec: TLS-16 TLS-17 TLS-18
func TestBoundsAreWhereTheSpecificationPutsThem(t *testing.T) {
	t.Run("a ClientHello of 65,536 bytes", func(t *testing.T) {
		for _, more := range []int{0, 1} {
			a, b := newPipe()
			hello := func(h *tlsmsg.ClientHello) {
				bare, err := h.Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: 0x5a5a, Data: make([]byte, 65536-(len(bare)-4)-4)})
			}
			hs := scriptedClient(t, a, clientConfig(), nil)
			b.take()
			hello(hs.hello)
			raw, err := hs.hello.Append(nil)
			if err != nil || len(raw) != 4+65536 {
				t.Fatalf("%d bytes, %v", len(raw), err)
			}
			hs.raw = raw
			server := Server(b, serverConfig())
			if more == 0 {
				if err := hs.queue(raw); err != nil {
					t.Fatal(err)
				}
				if err := hs.flush(); err != nil {
					t.Fatal(err)
				}
				finishScripted(t, hs, server)
			} else {
				// Four bytes are enough: nobody waits for the rest.
				a.inject(plainRecord(tlsmsg.TypeHandshake, []byte{1, 1, 0, 1}))
				if err := server.Handshake(); alertOf(err) != tlsmsg.AlertIllegalParameter {
					t.Errorf("one byte more: %v", err)
				}
			}
			a.Close()
		}
	})
	t.Run("32 records without data", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		for range 3 {
			for range 32 {
				if err := client.record(tlsmsg.TypeApplicationData, nil); err != nil {
					t.Fatal(err)
				}
			}
			exchange(t, client, server)
		}
	})
	t.Run("64 KeyUpdates", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		for range 64 {
			client.startKeyUpdate(t, false)
			exchange(t, client, server)
		}
	})
	t.Run("what is held of a record", func(t *testing.T) {
		client, server := connect(t, clientConfig(), serverConfig())
		for _, n := range []int{0, 1, 4096, 16384} {
			if err := client.record(tlsmsg.TypeApplicationData, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(server, make([]byte, n)); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		if n := len(server.in.buf); n > 5+16640 {
			t.Errorf("a buffer of %d bytes", n)
		}
		client.record(tlsmsg.TypeHandshake, []byte{byte(tlsmsg.TypeKeyUpdate), 0, 0})
		client.record(tlsmsg.TypeHandshake, []byte{1, 0})
		if err := client.out.update(); err != nil {
			t.Fatal(err)
		}
		exchange(t, client, server)
		if server.in.hand != nil {
			t.Errorf("%d bytes of handshake messages are kept", cap(server.in.hand))
		}
	})
}

// A list of authorities of more than 16 KiB is not sent; the client then chooses by itself.
func TestAuthoritiesAreNamedUpTo16KiB(t *testing.T) {
	pool := func(size int) *x509.CertPool {
		pool := x509.NewCertPool()
		for i := 0; size > 0; i++ {
			cert := *identities().root.cert
			cert.Raw = fmt.Appendf(nil, "certificate %d", i)
			cert.RawSubject = make([]byte, min(1022, size-2))
			cert.Subject = pkix.Name{}
			pool.AddCert(&cert)
			size -= 2 + len(cert.RawSubject)
		}
		return pool
	}
	for size, sent := range map[int]bool{1024: true, 16384: true, 16384 + 1024: false, 1 << 20: false} {
		sc := serverConfig()
		asking(sc)
		sc.TLS.ClientCAs = pool(size)
		hs := &serverHandshake{Conn: Server(nil, sc)}
		hs.transcript = suiteByID(tlsmsg.SuiteSHA256).hash()
		msg, err := hs.appendRequest(nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := tlsmsg.ParseCertificateRequest(msg)
		if err != nil {
			t.Fatal(err)
		}
		if (len(m.Authorities) > 0) != sent {
			t.Errorf("%d bytes of names: %d are sent", size, len(m.Authorities))
		}
	}
}

// How long a comparison of a tag, a Finished or a binder takes must not say how much of it was right. No
// test can measure that well; this one reads the code.
func TestTagsAreComparedInConstantTime(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constant := map[string]bool{}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				var text strings.Builder
				switch n := n.(type) {
				case *ast.CallExpr:
					_ = printer.Fprint(&text, set, n.Fun)
					if text.String() == "hmac.Equal" {
						constant[f.Name.Name] = true
					}
					if text.String() != "bytes.Equal" && text.String() != "slices.Equal" {
						return true
					}
					text.Reset()
					_ = printer.Fprint(&text, set, n)
				case *ast.BinaryExpr:
					if n.Op != token.EQL && n.Op != token.NEQ {
						return true
					}
					_ = printer.Fprint(&text, set, n)
					if strings.Contains(text.String(), "len(") || strings.Contains(text.String(), "nil") {
						return true
					}
				default:
					return true
				}
				for _, secret := range []string{"tag", "inder", "VerifyData", "verify_data"} {
					if slices.Contains(strings.FieldsFunc(text.String(), func(r rune) bool { return strings.ContainsRune("()[],. !=:", r) }), secret) ||
						secret != "tag" && strings.Contains(text.String(), secret) {
						t.Errorf("%s: %s", set.Position(n.Pos()), text.String())
					}
				}
				return true
			})
		}
	}
	for _, f := range []string{"open", "readFinished", "choosePSK"} {
		if !constant[f] {
			t.Errorf("%s does not compare with hmac.Equal", f)
		}
	}
}
