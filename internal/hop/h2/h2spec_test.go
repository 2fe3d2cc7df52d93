package h2

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"vitrine/internal/hop"
)

// h2specExceptions are the tests that may fail, each with the reason. A test that is listed and passes is
// an error, too.
var h2specExceptions = map[string]string{}

// TestH2Spec runs h2spec, version 2.2.1, against a server of ours. It needs the program: H2SPEC is its
// path, and without it the test is skipped.
func TestH2Spec(t *testing.T) {
	program := os.Getenv("H2SPEC")
	if program == "" {
		t.Skip("H2SPEC does not name the h2spec program")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { serveConformance(t, ln, &serving) })
	report := filepath.Join(t.TempDir(), "report.xml")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	cmd := exec.Command(program, "-t", "-k", "-S", "-h", "127.0.0.1", "-p", port, "-j", report)
	out, err := cmd.CombinedOutput()
	ln.Close()
	serving.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	checkReport(t, report, out)
}

func serveConformance(t *testing.T, ln net.Listener, serving *sync.WaitGroup) {
	cfg := &tls.Config{
		Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true,
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			conn := tls.Server(hop.NewBatchConn(c), cfg)
			if conn.Handshake() != nil {
				conn.Close()
				return
			}
			s, err := Server(conn, &Config{Ordinary: true})
			if err != nil {
				t.Error(err)
				return
			}
			for {
				in, err := s.Accept(context.Background())
				if err != nil {
					break
				}
				or, ok := in.(hop.IncomingRequest)
				if !ok {
					in.Reject(&hop.Response{Status: 403})
					continue
				}
				serving.Go(func() { answerWhole(or) })
			}
			<-s.Done()
		})
	}
}

// answerWhole answers when the whole request has come, as most servers do.
func answerWhole(in hop.IncomingRequest) {
	x, err := in.Answer()
	if err != nil {
		return
	}
	conn := hop.NewConn(x)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		x.Reset(hop.InternalError)
		return
	}
	body := "This is a proxy.\n"
	x.Respond(&hop.Response{Status: 200, Header: http.Header{"Content-Length": {strconv.Itoa(len(body))}}}, false)
	io.WriteString(conn, body)
	conn.CloseWrite()
}

type junit struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func checkReport(t *testing.T, report string, out []byte) {
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r junit
	if err := xml.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	passed, skipped, failed := 0, 0, 0
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			name := suite.Package + ": " + c.Class
			reason, excepted := h2specExceptions[name]
			switch {
			case c.Failure != nil || c.Error != nil:
				failed++
				if !excepted {
					t.Errorf("failed: %s", name)
				} else {
					t.Logf("excepted: %s: %s", name, reason)
				}
			case c.Skipped != nil:
				skipped++
			default:
				passed++
				if excepted {
					t.Errorf("passes, and is listed as an exception: %s", name)
				}
			}
		}
	}
	t.Logf("%d passed, %d skipped, %d failed", passed, skipped, failed)
	if passed < 100 {
		t.Errorf("h2spec ran only %d tests:\n%s", passed, out)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
