package origin_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"net/http"

	"vitrine/origin"
)

// One line enables inspected TLS on a server that goes on serving everybody else as before.
func ExampleConfigureServer() {
	cert, err := tls.LoadX509KeyPair("shop.pem", "shop.key")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{
		Addr:      ":443",
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if info, ok := origin.InspectionOf(r.Context()); ok && info.ProxyCertificate != nil {
				fmt.Fprintf(w, "This page was read by %s.\n", info.ProxyCertificate.Subject)
				return
			}
			fmt.Fprintln(w, "This page was read by you alone.")
		}),
	}
	if err := origin.ConfigureServer(srv, nil); err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.ListenAndServeTLS("", "")) // the certificate is in TLSConfig
}

// A handler whose answers are signed, for clients whose proxy opens the connection to read it.
func ExampleSignResponses() {
	cert, err := tls.LoadX509KeyPair("shop.pem", "shop.key")
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	signed, err := origin.SignResponses(http.FileServer(http.Dir("www")), &origin.SignConfig{TLSConfig: config})
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Addr: ":443", TLSConfig: config, Handler: signed}
	log.Fatal(srv.ListenAndServeTLS("", ""))
}
