package consent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"vitrine/client"
	"vitrine/client/consent"
)

// A user is asked once, and what was granted holds until it is revoked.
func ExamplePrompt() {
	folder, err := os.MkdirTemp("", "consent")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	store, err := consent.Open(filepath.Join(folder, "vitrine", "consent.json")) // or consent.Path()
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	prompt := &consent.Prompt{Store: store, In: strings.NewReader("host\n"), Out: os.Stdout}
	// What a client.Transport whose Consent is prompt asks before a CONNECT:
	req := &client.ConsentRequest{
		ProxyRootSPKI: [32]byte{0xa1, 0xb2}, ProxyName: "glass.example", ProxySubject: "CN=glass.example",
		Authority: "shop.example:443", Levels: []client.Level{client.Intact},
		Words: "The proxy glass.example reads what you and shop.example say to each other.",
	}
	agreement, err := prompt.Ask(context.Background(), req)
	if err != nil {
		log.Fatal(err)
	}
	grants, err := store.Grants()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("host") // as the user types it
	fmt.Println("stored for", grants[0].Scope[0], "- credentials:", agreement.Credentials)

	if _, err := store.Revoke(grants[0].ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println("it ended:", errors.Is(context.Cause(agreement.Ends), consent.ErrRevoked))
	// Output:
	// The proxy glass.example reads what you and shop.example say to each other.
	//
	//   Proxy:  glass.example
	//           its certificate names CN=glass.example
	//           its root's key is a1b2000000000000…
	//
	// Do you agree?
	//   1  once: for shop.example:443, until this program ends
	//   2  host: for shop.example:443, for 30 days
	//   3  every: for every host, for 30 days
	//   n  no
	// Your answer: host
	// stored for shop.example:443 - credentials: false
	// it ended: true
}

// A user is asked which level to take where intact cannot be had. "Always" is stored, until it is revoked.
func ExamplePrompt_Choose() {
	folder, err := os.MkdirTemp("", "consent")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	store, err := consent.Open(filepath.Join(folder, "vitrine", "consent.json"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	prompt := &consent.Prompt{Store: store, In: strings.NewReader("always\n"), Out: os.Stdout}
	tr := &client.Transport{Consent: prompt, Choose: prompt.Choose, Memory: store}
	// What tr asks when a proxy refuses:
	level, err := tr.Choose(context.Background(), &client.Offer{
		ProxyRootSPKI: [32]byte{0xa1, 0xb2}, ProxyName: "glass.example", Authority: "shop.example:443",
		Accepted: []client.Level{client.Intact}, Why: "the origin does not speak inner sessions, as its signature shows", Justified: true,
		Choices: []client.Choice{{Level: client.Attested, Words: "glass.example reads everything and could change everything."}},
	})
	if err != nil {
		log.Fatal(err)
	}
	grants, err := store.Grants()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("always") // as the user types it
	fmt.Println(level, "is stored for", grants[0].Scope[0])
	// Output:
	// shop.example:443 is not to be had at level intact: the origin does not speak inner sessions, as its signature shows.
	//
	//   Proxy:  glass.example
	//           its root's key is a1b2000000000000…
	//
	// What can be had, and what it gives away:
	//   attested  glass.example reads everything and could change everything.
	//
	// What do you choose?
	//   1  attested once: for shop.example:443, until this program ends
	//   2  attested always: for shop.example:443, for 30 days or until you revoke it
	//   n  no
	// Your answer: always
	// attested is stored for shop.example:443
}
