package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"vitrine/internal/hop"
)

// benchHop is a hop over loopback TCP.
func benchHop(b *testing.B) (client, server hop.Session) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	c := tls.Client(hop.NewBatchConn(dialed), &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	s := tls.Server(hop.NewBatchConn(accepted), &tls.Config{Certificates: []tls.Certificate{testCertificate()}, DynamicRecordSizingDisabled: true})
	errc := make(chan error, 1)
	go func() { errc <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-errc); err != nil {
		b.Fatal(err)
	}
	client, err = Client(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	server, err = Server(s, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		client.Close(hop.NoError, "")
		server.Close(hop.NoError, "")
		<-client.Done()
		<-server.Done()
	})
	return client, server
}

// serveEcho answers every tunnel with what it sends.
func serveEcho(b *testing.B, server hop.Session) {
	go func() {
		for {
			in, err := server.Accept(context.Background())
			if err != nil {
				return
			}
			st, err := in.Accept(&hop.Response{Status: 200})
			if err != nil {
				b.Error(err)
				return
			}
			st.Start(&joint{to: st})
		}
	}()
}

// BenchmarkBulk moves 1 MiB at a time down one tunnel.
func BenchmarkBulk(b *testing.B) {
	client, server := benchHop(b)
	accepted := make(chan hop.Stream, 1)
	go func() {
		in, err := server.Accept(context.Background())
		if err != nil {
			b.Error(err)
			return
		}
		st, err := in.Accept(&hop.Response{Status: 200})
		if err != nil {
			b.Error(err)
		}
		accepted <- st
	}()
	_, near, err := client.Open(context.Background(), connectRequest())
	if err != nil {
		b.Fatal(err)
	}
	from, to := hop.NewConn(<-accepted), hop.NewConn(near)
	block := make([]byte, 1<<20)
	go func() {
		for {
			if _, err := from.Write(block); err != nil {
				return
			}
		}
	}()
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := io.ReadFull(to, block); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchange sends 1 KiB and waits for 1 KiB on an open tunnel.
func BenchmarkExchange(b *testing.B) {
	client, server := benchHop(b)
	serveEcho(b, server)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		_, st, err := client.Open(context.Background(), connectRequest())
		if err != nil {
			b.Error(err)
			return
		}
		c := hop.NewConn(st)
		defer st.Reset(hop.Cancel)
		p := make([]byte, 1<<10)
		for pb.Next() {
			if _, err := c.Write(p); err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(c, p); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkTunnel opens a tunnel, sends and receives 1 KiB, and closes it.
func BenchmarkTunnel(b *testing.B) {
	client, server := benchHop(b)
	serveEcho(b, server)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 1<<10)
		for pb.Next() {
			_, st, err := client.Open(context.Background(), connectRequest())
			if err != nil {
				b.Error(err)
				return
			}
			c := hop.NewConn(st)
			c.Write(p)
			c.CloseWrite()
			if n, err := io.ReadFull(c, p); err != nil {
				b.Error(n, err)
				return
			}
			if n, err := c.Read(p); n != 0 || err != io.EOF {
				b.Error(n, err)
				return
			}
		}
	})
}
