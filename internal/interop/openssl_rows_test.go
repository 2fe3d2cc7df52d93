package interop

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"slices"
	"strings"

	"vitrine/internal/itls"
)

// groupNames are the groups in common.
var groupNames = []struct {
	id   tls.CurveID
	name string
}{
	{tls.X25519, "X25519"},
	{tls.CurveP256, "P-256"},
	{tls.CurveP384, "P-384"},
	{tls.X25519MLKEM768, "X25519MLKEM768"},
}

func (o *openssl) rows() []row {
	return slices.Concat(o.handshakes(), o.resumptions(), o.refusals(), o.streams(), o.commands())
}

func (o *openssl) handshakes() (rows []row) {
	add := func(name string, role role, test func(r *run)) { rows = append(rows, row{name, role, test}) }

	add("as both choose", either, func(r *run) { o.link(r, setup{}).open() })
	for _, g := range groupNames {
		add("group "+g.name, either, func(r *run) {
			l := o.link(r, setup{ours: func(c *itls.Config) { c.Groups = []tls.CurveID{g.id} }, theirs: []string{"-groups", g.name}})
			if got := l.open().ConnectionState(); got.CurveID != g.id || got.HelloRetryRequest {
				r.Errorf("group %v, HelloRetryRequest %t", got.CurveID, got.HelloRetryRequest)
			}
		})
	}
	for _, g := range groupNames {
		add("HelloRetryRequest to "+g.name, either, func(r *run) {
			if got := o.link(r, r.retried(g.id, g.name)).open().ConnectionState(); got.CurveID != g.id || !got.HelloRetryRequest {
				r.Errorf("group %v, HelloRetryRequest %t", got.CurveID, got.HelloRetryRequest)
			}
		})
	}
	add("HelloRetryRequest with cookie", asClient, func(r *run) {
		if !o.link(r, setup{theirs: []string{"-stateless"}}).open().ConnectionState().HelloRetryRequest {
			r.Error("there was none")
		}
	})
	for _, kind := range kinds {
		add("server "+kind, either, func(r *run) {
			o.link(r, setup{server: r.servers[kind]}).open()
		})
	}
	for _, kind := range kinds {
		add("client "+kind, either, func(r *run) {
			l := o.link(r, r.withClient(r.clients[kind]))
			s := l.open()
			if r.role == asClient {
				l.peer.says("CN=" + kind)
				return
			}
			if got := s.ConnectionState(); len(got.VerifiedChains) == 0 || got.PeerCertificates[0].Subject.CommonName != kind {
				r.Errorf("client %+v", got.PeerCertificates)
			}
		})
	}
	add("client certificate asked for, none shown", either, func(r *run) {
		s := setup{theirs: []string{"-verify", "3", "-verify_return_error"}}
		if r.role == asServer {
			s = setup{ours: func(c *itls.Config) { c.TLS.ClientAuth, c.TLS.ClientCAs = tls.VerifyClientCertIfGiven, r.pool }}
		}
		if got := o.link(r, s).open().ConnectionState().PeerCertificates; r.role == asServer && got != nil {
			r.Errorf("client %+v", got)
		}
	})
	add("chain of 48 KiB", either, func(r *run) {
		s := o.link(r, setup{server: r.long}).open()
		if got := s.ConnectionState().PeerCertificates; r.role == asClient && len(got) != len(r.long.cert.Certificate) {
			r.Errorf("%d certificates", len(got))
		}
	})
	add("OCSP response", either, func(r *run) {
		response, _ := hex.DecodeString("30030a0106") // OCSPResponse: unauthorized
		if r.role == asServer {
			id := *r.servers[kinds[0]]
			id.cert.OCSPStaple = response
			l := o.link(r, setup{server: &id, theirs: []string{"-status"}})
			l.open()
			l.peer.says("OCSP Response Status: unauthorized (0x6)")
			return
		}
		file := r.save(r.T, "ocsp.der", response)
		s := o.link(r, setup{theirs: []string{"-status", "-status_file", file}}).open()
		if got := s.ConnectionState().OCSPResponse; hex.EncodeToString(got) != hex.EncodeToString(response) {
			r.Errorf("OCSP response %x", got)
		}
	})
	add("ALPN", either, func(r *run) {
		l := o.link(r, setup{ours: func(c *itls.Config) { c.TLS.NextProtos = []string{"h2", "http/1.1"} }, theirs: []string{"-alpn", "http/1.1,x"}})
		if got := l.open().ConnectionState().NegotiatedProtocol; got != "http/1.1" {
			r.Errorf("protocol %q", got)
		}
		if r.role == asServer {
			l.peer.says("ALPN protocol: http/1.1")
		} else {
			l.peer.says("ALPN protocols selected: http/1.1")
		}
	})
	add("ALPN of one end only", either, func(r *run) {
		if got := o.link(r, setup{theirs: []string{"-alpn", "http/1.1"}}).open().ConnectionState().NegotiatedProtocol; got != "" {
			r.Errorf("protocol %q", got)
		}
	})
	add("without server_name", asServer, func(r *run) {
		l := o.link(r, setup{})
		l.theirs = slices.DeleteFunc(l.theirs, func(a string) bool { return a == "-servername" || a == host })
		if got := l.open("-noservername").ConnectionState().ServerName; got != "" {
			r.Errorf("name %q", got)
		}
	})
	add("extensions of old and others", asServer, func(r *run) {
		o.link(r, setup{}).open("-enable_pha", "-maxfraglen", "1024", "-status", "-serverinfo", "18,1234,65000", "-use_srtp", "SRTP_AEAD_AES_128_GCM")
	})
	add("suites of old and others offered", asServer, func(r *run) {
		l := o.link(r, setup{})
		l.theirs[slices.Index(l.theirs, "-ciphersuites")+1] = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:" + suiteName(r.suite)
		l.theirs = slices.DeleteFunc(l.theirs, func(a string) bool { return a == "-tls1_3" })
		l.open()
	})
	add("without change_cipher_spec", either, func(r *run) { o.link(r, setup{theirs: []string{"-no_middlebox"}}).open() })
	add("padded records", either, func(r *run) {
		l := o.link(r, setup{theirs: []string{"-record_padding", "1024"}})
		s := l.open()
		if n := s.flow.largest(r.role == asServer); n < 1024 {
			r.Errorf("the largest record has %d bytes: nothing was padded", n)
		}
	})
	add("records of 512 bytes", either, func(r *run) {
		l := o.link(r, setup{server: r.long, theirs: []string{"-max_send_frag", "512"}})
		s := l.open()
		text := "from them: " + strings.Repeat("0123456789", 1000) + "\n"
		l.peer.write(text)
		s.want(r.T, text)
		if n := s.flow.largest(r.role == asServer); r.role == asClient && n > 512+64 {
			r.Errorf("a record of %d bytes", n)
		}
	})
	add("record_size_limit, which it does not know", either, func(r *run) {
		o.link(r, setup{ours: func(c *itls.Config) { c.RecordSizeLimit = 1024 }}).open()
	})
	add("an external PSK offered", asServer, func(r *run) {
		if o.link(r, setup{}).open("-psk", "00112233445566778899aabbccddeeff", "-psk_identity", "somebody").ConnectionState().DidResume {
			r.Error("somebody's key was taken")
		}
	})
	return rows
}

// retried makes the client share a group that the server does not want.
func (r *run) retried(group tls.CurveID, name string) setup {
	first, firstName := tls.X25519, "X25519"
	if group == tls.X25519 {
		first, firstName = tls.CurveP256, "P-256"
	}
	if r.role == asServer {
		return setup{ours: func(c *itls.Config) { c.Groups = []tls.CurveID{group} }, theirs: []string{"-groups", firstName + ":" + name}}
	}
	return setup{ours: func(c *itls.Config) { c.Groups = []tls.CurveID{first, group} }, theirs: []string{"-groups", name}}
}

// withClient makes the server require a client certificate, and gives the client one; nil: none.
func (r *run) withClient(id *identity) setup {
	if r.role == asServer {
		s := setup{ours: func(c *itls.Config) { c.TLS.ClientAuth, c.TLS.ClientCAs = tls.RequireAndVerifyClientCert, r.pool }}
		if id != nil {
			s.theirs = []string{"-cert", id.certFile, "-key", id.keyFile}
		}
		return s
	}
	s := setup{theirs: []string{"-Verify", "3", "-verify_return_error"}}
	if id != nil {
		s.ours = func(c *itls.Config) { c.TLS.Certificates = []tls.Certificate{id.cert} }
	}
	return s
}

// then adds a change of our side.
func (s setup) then(f func(*itls.Config)) setup {
	before := s.ours
	s.ours = func(c *itls.Config) {
		if before != nil {
			before(c)
		}
		f(c)
	}
	return s
}

func (o *openssl) resumptions() (rows []row) {
	add := func(name string, role role, test func(r *run)) { rows = append(rows, row{name, role, test}) }

	// twice opens a session and then another, which may resume it.
	twice := func(r *run, s setup, between func(l *link), again bool) (*link, *session) {
		r.Helper()
		l := o.link(r, s.then(func(c *itls.Config) {
			c.Sessions, c.Tickets = new(itls.SessionCache), new(itls.TicketKeys)
		}))
		file := r.save(r.T, "session", nil)
		for i := range 2 {
			more := []string{"-sess_out", file}
			if i > 0 {
				more = append(more, "-sess_in", file)
			}
			s := l.open(more...)
			if got, want := s.ConnectionState().DidResume, i > 0 && again; got != want {
				r.Fatalf("session %d: resumed %t, want %t", i, got, want)
			}
			if i > 0 {
				if again {
					l.peer.says(map[role]string{asClient: "Reused session-id", asServer: "Reused, TLSv1.3, Cipher is " + suiteName(r.suite)}[r.role])
				}
				return l, s
			}
			l.finish(s)
			if info, err := os.Stat(file); r.role == asServer && (err != nil || info.Size() == 0) {
				r.Fatal("it kept no session")
			}
			if r.role == asClient && l.cfg.Sessions.Len() == 0 {
				r.Fatal("we kept no session")
			}
			if between != nil {
				between(l)
			}
		}
		panic("unreachable")
	}
	add("resumption", either, func(r *run) { twice(r, setup{}, nil, true) })
	add("resumption through a stored session", asClient, func(r *run) {
		twice(r, setup{}, func(l *link) {
			stored, err := l.cfg.Sessions.Take().MarshalBinary()
			if err != nil {
				r.Fatal(err)
			}
			s := new(itls.Session)
			if err := s.UnmarshalBinary(stored); err != nil {
				r.Fatal(err)
			}
			l.cfg.Sessions = new(itls.SessionCache)
			l.cfg.Sessions.Add(s)
		}, true)
	})
	add("resumption, HelloRetryRequest", either, func(r *run) {
		if _, s := twice(r, r.retried(tls.CurveP384, "P-384"), nil, true); !s.ConnectionState().HelloRetryRequest {
			r.Error("there was none")
		}
	})
	add("resumption, client certificate", either, func(r *run) {
		_, s := twice(r, r.withClient(r.clients[kinds[0]]), nil, true)
		if got := s.ConnectionState(); r.role == asServer && (len(got.VerifiedChains) == 0 || got.PeerCertificates[0].Subject.CommonName != kinds[0]) {
			r.Errorf("client %+v", got.PeerCertificates)
		}
	})
	add("resumption, ALPN", either, func(r *run) {
		s := setup{ours: func(c *itls.Config) { c.TLS.NextProtos = []string{"http/1.1"} }, theirs: []string{"-alpn", "http/1.1"}}
		if _, s := twice(r, s, nil, true); s.ConnectionState().NegotiatedProtocol != "http/1.1" {
			r.Errorf("protocol %q", s.ConnectionState().NegotiatedProtocol)
		}
	})
	add("resumption of a resumption", either, func(r *run) {
		l, s := twice(r, setup{}, nil, true)
		l.finish(s)
		if r.role == asClient && !l.open().ConnectionState().DidResume {
			r.Error("not resumed")
		}
		if r.role == asServer && !l.open("-sess_in", r.save(r.T, "again", r.load("session"))).ConnectionState().DidResume {
			r.Error("not resumed")
		}
	})
	add("ticket that nobody can open", either, func(r *run) {
		twice(r, setup{}, func(l *link) {
			if r.role == asServer {
				l.cfg.Tickets.Drop()
				return
			}
			l.peer.kill()
			l.peer = nil
		}, false)
	})
	add("tickets for early data, none sent", asClient, func(r *run) {
		l, _ := twice(r, setup{theirs: []string{"-early_data", "-max_early_data", "16384"}}, nil, true)
		if l.peer.out.has("Early data received") {
			r.Error("early data was sent")
		}
	})
	add("ten tickets", asClient, func(r *run) { twice(r, setup{theirs: []string{"-num_tickets", "10"}}, nil, true) })
	add("PSK without key exchange preferred there", either, func(r *run) {
		_, s := twice(r, setup{theirs: []string{"-allow_no_dhe_kex", "-prefer_no_dhe_kex"}}, nil, true)
		if s.ConnectionState().CurveID == 0 {
			r.Error("no key exchange")
		}
	})
	add("no tickets", either, func(r *run) {
		l := o.link(r, setup{theirs: []string{"-no_ticket", "-num_tickets", "0"}}.only(r, asServer, nil).then(func(c *itls.Config) { c.Sessions = new(itls.SessionCache) }))
		s := l.open()
		l.finish(s)
		if n := l.cfg.Sessions.Len(); n > 0 {
			r.Errorf("%d sessions", n)
		}
	})
	return rows
}

// only replaces the peer's arguments in one role.
func (s setup) only(r *run, role role, theirs []string) setup {
	if r.role == role {
		s.theirs = theirs
	}
	return s
}

func (r *run) load(name string) []byte {
	r.Helper()
	b, err := os.ReadFile(r.dir + "/" + name)
	if err != nil {
		r.Fatal(err)
	}
	return b
}

func (o *openssl) refusals() (rows []row) {
	add := func(name string, role role, test func(r *run)) { rows = append(rows, row{name, role, test}) }

	// refused expects that no session comes about. The client's refusals are ours in one role and theirs in the other.
	refused := func(r *run, s setup, alert, words string, byServer bool) {
		r.Helper()
		l := o.link(r, s)
		_, err := l.try()
		ours := byServer == (r.role == asServer)
		wantAlert(r, err, alert, !ours)
		if ours {
			l.peer.says(words)
		}
	}
	add("no suite in common", either, func(r *run) {
		other := suiteName(columns[0].suite)
		if r.suite == columns[0].suite {
			other = suiteName(columns[1].suite)
		}
		refused(r, setup{theirs: []string{"-ciphersuites", other}}, "handshake_failure", "alert handshake failure", true)
	})
	add("no group in common", either, func(r *run) {
		refused(r, setup{theirs: []string{"-groups", "P-521"}}, "handshake_failure", "alert handshake failure", true)
	})
	add("no protocol in common", either, func(r *run) {
		s := setup{ours: func(c *itls.Config) { c.TLS.NextProtos = []string{"h2"} }, theirs: []string{"-alpn", "http/1.1"}}
		refused(r, s, "no_application_protocol", "alert number 120", true)
	})
	add("unknown root", either, func(r *run) {
		s := setup{ours: func(c *itls.Config) { c.TLS.RootCAs = x509.NewCertPool() }}
		if r.role == asServer {
			s = setup{ca: r.servers[kinds[0]].certFile}
		}
		refused(r, s, "unknown_ca", "alert unknown ca", false)
	})
	add("wrong name", asClient, func(r *run) {
		s := setup{ours: func(c *itls.Config) { c.TLS.ServerName = "other.example" }}
		refused(r, s, "bad_certificate", "alert bad certificate", false)
	})
	add("no client certificate", either, func(r *run) {
		if r.role == asServer {
			refused(r, r.withClient(nil), "certificate_required", "alert number 116", true)
			return
		}
		// A client is done before the server has seen that there is none.
		s, err := o.link(r, r.withClient(nil)).try()
		if err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		wantAlert(r, err, "certificate_required", true)
	})
	add("earlier version", either, func(r *run) {
		l := o.link(r, setup{})
		l.theirs[slices.Index(l.theirs, "-tls1_3")] = "-tls1_2"
		_, err := l.try()
		wantAlert(r, err, map[role]string{asClient: "protocol_version", asServer: "protocol_version"}[r.role], r.role == asClient)
	})
	return rows
}
