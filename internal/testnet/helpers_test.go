package testnet

import "net/http"

func (n *Net) httpClient() *http.Client { return &http.Client{Transport: n.Client} }
