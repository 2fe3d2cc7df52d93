// Package consent keeps what a user has agreed to, and asks for what is not there.
//
// Call [Open] with [Path]'s file, and give the [Store] to a client.Transport as its Consent: then what is
// stored is agreed to, and nothing else. A [Prompt] around the Store asks the user about the rest.
//
//	store, err := consent.Open(path)
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	tr := &client.Transport{Consent: store, Memory: store}
//
// Where a proxy offers less than what is accepted, the Choose of a Prompt asks which level to take, and what that gives
// away; what is answered with "always" is a grant like any other:
//
//	prompt := &consent.Prompt{Store: store, In: tty, Out: tty}
//	tr := &client.Transport{Consent: prompt, Choose: prompt.Choose, Memory: store}
//
// A Store is also the memory of what was reached at intact, or with signed responses, in a file of its own beside the
// grants, so that less than that needs the user whichever program asks.
//
// A grant lets one proxy read what is said to some hosts, until a time. The proxy is known by the key of the
// root that vouches for it and by its name; a new certificate of the same proxy needs no new grant. What is
// revoked, here or in another process, ends within a second for all that was opened under it.
package consent
