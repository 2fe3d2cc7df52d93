package consent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/client"
)

const oneGrant = `{
  "version": 2,
  "grants": [
    {
      "id": "abcdefgh",
      "proxy_root_spki_sha256": "0102030000000000000000000000000000000000000000000000000000000000",
      "proxy_name": "glass.example",
      "proxy_subject": "CN=glass.example",
      "scope": [
        "*.example"
      ],
      "granted": "2026-01-02T03:04:05Z",
      "until": "2026-02-01T03:04:05Z",
      "credentials": true,
      "levels": [
        "intact",
        "attested"
      ]
    }
  ]
}
`

func TestTheFileHasOneForm(t *testing.T) {
	list, err := parse([]byte(oneGrant))
	if err != nil {
		t.Fatal(err)
	}
	want := Grant{
		ID: "abcdefgh", ProxyRootSPKI: [32]byte{1, 2, 3}, ProxyName: "glass.example", ProxySubject: "CN=glass.example",
		Scope:   scope(t, "*.example"),
		Granted: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Until: time.Date(2026, 2, 1, 3, 4, 5, 0, time.UTC), Credentials: true,
		Levels: []client.Level{client.Intact, client.Attested},
	}
	if len(list) != 1 || !list[0].equal(&want) {
		t.Errorf("%+v, want %+v", list, want)
	}
	if text, err := format(list); err != nil || string(text) != oneGrant {
		t.Errorf("%s%v", text, err)
	}
}

// oldGrant is the same in a store of version 1, which knew intact alone.
func oldGrant() string {
	text := strings.Replace(oneGrant, `"version": 2`, `"version": 1`, 1)
	from := strings.Index(text, `,
      "levels"`)
	return text[:from] + text[strings.Index(text, "\n    }"):]
}

// What was agreed to before there were levels to choose was that the proxy reads.
func TestAnOlderStoreIsForIntact(t *testing.T) {
	list, err := parse([]byte(oldGrant()))
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Levels, []client.Level{client.Intact}) || !list[0].Credentials {
		t.Fatalf("%+v %v from %s", list, err, oldGrant())
	}
	text, err := format(list)
	if err != nil || !strings.Contains(string(text), `"version": 2`) {
		t.Errorf("written as %s, %v", text, err)
	}
	if again, err := parse(text); err != nil || len(again) != 1 || !again[0].equal(&list[0]) {
		t.Errorf("%+v %v", again, err)
	}
}

// spec: CLI-24
func TestParseRefuses(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(oneGrant, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(oneGrant, old, new, 1)
	}
	grant := oneGrant[strings.Index(oneGrant, "    {"):strings.LastIndex(oneGrant, "\n  ]")]
	for name, x := range map[string]struct{ text, want string }{
		"nothing":              {"", "unexpected EOF"},
		"half of it":           {oneGrant[:200], "EOF"},
		"something behind":     {oneGrant + "{}", "follows"},
		"garbage behind":       {oneGrant + "]", "follows"},
		"null":                 {"null", "version"},
		"a list":               {"[]", "array"},
		"no version":           {`{"grants": []}`, "version"},
		"version 0":            {change(`"version": 2`, `"version": 0`), "version"},
		"a later version":      {`{"version": 3, "permits": []}`, "later"},
		"version in words":     {change(`"version": 2`, `"version": "1"`), "string"},
		"an unknown field":     {change(`"credentials"`, `"credential"`), "credential"},
		"a field in capitals":  {change(`"until"`, `"Until"`), `"Until"`},
		"a field twice":        {change(`"credentials": true`, `"credentials": false, "credentials": true`), "twice"},
		"two lists of grants":  {change(`"version": 2`, `"version": 1, "grants": []`), "twice"},
		"an object for a host": {change(`"*.example"`, `{"a": 1, "a": 2}`), "deep"},
		"an id too long":       {change("abcdefgh", "abcdefghi"), "id"},
		"an id like an option": {change("abcdefgh", "--revoke"), "id"},
		"an id twice":          {change(grant, grant+","+grant), "taken"},
		"no id":                {change(`"id": "abcdefgh",`, ""), "id"},
		"a short root":         {change("0000000\"", "\""), "root"},
		"a root in capitals":   {change(`"010203`, `"0A0203`), "root"},
		"no root":              {change(`"0102030000`, `"0000000000`), "root"},
		"no name":              {change(`"glass.example"`, `""`), "name"},
		"an escape sequence":   {change("CN=glass", `\u001b[2J`), "subject"},
		"a long subject":       {change("CN=glass", strings.Repeat("x", maxSubject)), "subject"},
		"no scope":             {change(`"*.example"`, ""), "scope"},
		"a pattern in capital": {change(`"*.example"`, `"a*b"`), "pattern"},
		"no end":               {change(`"until": "2026-02-01T03:04:05Z",`, ""), "ends"},
		"an end before":        {change("2026-02-01", "2025-02-01"), "ends"},
		"an end far away":      {change("2026-02-01", "2036-02-01"), "longer"},
		"no beginning":         {change(`"granted": "2026-01-02T03:04:05Z",`, ""), "ends"},
		"no levels": {change(`"intact",
        "attested"`, ""), "no levels"},
		"levels of null": {change(`[
        "intact",
        "attested"
      ]`, "null"), "no levels"},
		"an unknown level":     {change(`"attested"`, `"trusted"`), "unknown level"},
		"a level twice":        {change(`"attested"`, `"intact"`), "twice"},
		"a level that is none": {change(`"attested"`, `3`), "string"},
		"levels in version 1":  {change(`"version": 2`, `"version": 1`), "version 1"},
		"no time":              {change("2026-02-01T03:04:05Z", "tomorrow"), "tomorrow"},
		"too long":             {oneGrant + strings.Repeat(" ", maxFile), "longer"},
		"deep in a field":      {`{"x":` + strings.Repeat("[", 9), "deep"},
		"deep":                 {strings.Repeat("[", maxFile), "deep"},
	} {
		if list, err := parse([]byte(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v %v, want an error with %q", name, list, err, x.want)
		}
	}
	var many []string
	for i := range maxGrants + 1 {
		id := []byte("aaaaaaaa")
		for j := 7; i > 0; j, i = j-1, i/26 {
			id[j] += byte(i % 26)
		}
		many = append(many, strings.Replace(`{"id":"abcdefgh"}`, "abcdefgh", string(id), 1))
	}
	if _, err := parse([]byte(`{"version":1,"grants":[` + strings.Join(many, ",") + `]}`)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many: %v", err)
	}
}

func TestCleanIsPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":          "plain",
		"\x1b[2J\r\n":    "?[2J??",
		"a\u202eb\u200b": "a?b?",
		"\xff":           "?",
		"ünï":            "ünï",
		"0123456789":     "01234…",
		"0123üüü":        "0123…",
	} {
		if got := clean(in, 8); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// What is accepted is written back and read as the same, and every part of it holds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(oneGrant))
	f.Add([]byte(oldGrant()))
	f.Add([]byte(`{"version":1,"grants":[]}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"grants":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parse(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Error("what is no JSON was accepted")
		}
		again, err := format(list)
		if err != nil {
			t.Skip(err) // what was below the bound need not be in our own form
		}
		back, err := parse(again)
		if err != nil || !slices.EqualFunc(list, back, func(a, b Grant) bool { return a.equal(&b) }) {
			t.Errorf("%+v was written as %s and read as %+v, %v", list, again, back, err)
		}
	})
}
