package testnet

import (
	"io"
	"testing"
	"testing/synctest"

	"vitrine/client"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Config{})
		resp, err := n.httpClient().Get("https://" + OriginHost + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Log(string(body), err, client.ReportOf(resp))
	})
}
