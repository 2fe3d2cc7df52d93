package main

import (
	"os/exec"
	"testing"
)

// TestAnAdvisedLineIsWhatItSays: the line in an error is pasted into a shell, and what stands in it came from a proxy,
// an origin's redirect and file names.
func TestAnAdvisedLineIsWhatItSays(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	for _, word := range []string{
		"", "shop.example:443", "pki/proxy-root.pem", "[::1]:443", "*", "my grants.json", "it's", "''", "$HOME", "`id`", "$(id)", "a;b", "a&b", "a|b", "~",
		"\\", "\"", "#", "!", "a\\'b", "{a,b}", "-n", "é",
	} {
		out, err := exec.Command(sh, "-c", "printf %s "+shellWord(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is %q in a shell: %q, %v", word, shellWord(word), out, err)
		}
	}
	for _, plain := range []string{"shop.example:443", "pki/proxy-root.pem", "a_b@c%d+e=f,g"} {
		if shellWord(plain) != plain {
			t.Errorf("%q is quoted for nothing: %s", plain, shellWord(plain))
		}
	}
}
