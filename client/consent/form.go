package consent

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

const (
	// version 1 had no levels: every grant of it is for intact.
	version = 2
	// maxFile and maxGrants stop a store that something fills from costing every CONNECT its time.
	maxFile   = 1 << 20
	maxGrants = 4096
	// maxDepth stops a tower of brackets from filling the stack. A pattern is in a list in a grant in a list in the store.
	maxDepth = 4
)

type fileForm struct {
	Version int         `json:"version"`
	Grants  []grantForm `json:"grants"`
}

type grantForm struct {
	ID          string    `json:"id"`
	Root        string    `json:"proxy_root_spki_sha256"`
	Name        string    `json:"proxy_name"`
	Subject     string    `json:"proxy_subject"`
	Scope       []string  `json:"scope"`
	Granted     time.Time `json:"granted"`
	Until       time.Time `json:"until"`
	Credentials bool      `json:"credentials"`
	Levels      []string  `json:"levels"`
}

// parse reads the text of a store. It is strict: a misspelt "until" must not become a grant without one.
func parse(text []byte) ([]Grant, error) {
	var form fileForm
	if err := decodeStrictly(text, version, &form); err != nil {
		return nil, err
	}
	if len(form.Grants) > maxGrants {
		return nil, fmt.Errorf("%d grants, at most %d", len(form.Grants), maxGrants)
	}
	grants := make([]Grant, 0, len(form.Grants))
	known := make(map[string]bool)
	for i := range form.Grants {
		g, err := form.Grants[i].grant(form.Version)
		if err != nil {
			return nil, fmt.Errorf("grant %d: %w", i+1, err)
		}
		if known[g.ID] {
			return nil, fmt.Errorf("grant %d: the id %s is taken", i+1, g.ID)
		}
		known[g.ID] = true
		grants = append(grants, *g)
	}
	return grants, nil
}

func (f *grantForm) grant(version int) (*Grant, error) {
	g := &Grant{
		ID: f.ID, ProxyName: f.Name, ProxySubject: f.Subject, Granted: f.Granted.UTC(), Until: f.Until.UTC(), Credentials: f.Credentials,
	}
	root, err := hex.DecodeString(f.Root)
	if err != nil || len(root) != len(g.ProxyRootSPKI) || hex.EncodeToString(root) != f.Root {
		return nil, errors.New("the proxy root is not SHA-256 in lower-case hex")
	}
	copy(g.ProxyRootSPKI[:], root)
	for _, s := range f.Scope {
		p, err := hosts.Parse(s)
		if err != nil {
			return nil, err
		}
		g.Scope = append(g.Scope, p)
	}
	switch {
	case version > 1:
		for _, l := range f.Levels {
			g.Levels = append(g.Levels, client.Level(l))
		}
	case f.Levels != nil:
		return nil, errors.New("levels in a store of version 1, which has none")
	default:
		g.Levels = []client.Level{client.Intact}
	}
	return g, g.check()
}

// format is what parse reads as grants.
func format(grants []Grant) ([]byte, error) {
	if len(grants) > maxGrants {
		return nil, fmt.Errorf("%d grants, at most %d; revoke some", len(grants), maxGrants)
	}
	form := fileForm{Version: version, Grants: make([]grantForm, 0, len(grants))}
	for i := range grants {
		g := &grants[i]
		f := grantForm{
			ID: g.ID, Root: hex.EncodeToString(g.ProxyRootSPKI[:]), Name: g.ProxyName, Subject: g.ProxySubject,
			Granted: g.Granted.UTC(), Until: g.Until.UTC(), Credentials: g.Credentials,
		}
		for _, p := range g.Scope {
			f.Scope = append(f.Scope, p.String())
		}
		for _, l := range g.Levels {
			f.Levels = append(f.Levels, string(l))
		}
		form.Grants = append(form.Grants, f)
	}
	text, err := json.MarshalIndent(form, "", "  ")
	if err != nil {
		return nil, err
	}
	if text = append(text, '\n'); len(text) > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d; revoke some", len(text), maxFile)
	}
	return text, nil
}

// decodeStrictly reads the text of a file of ours, of at most this version, into form.
func decodeStrictly(text []byte, version int, form any) error {
	if len(text) > maxFile {
		return fmt.Errorf("longer than %d bytes", maxFile)
	}
	if err := checkKeys(text); err != nil {
		return err
	}
	var head struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	switch {
	case head.Version == nil || *head.Version < 1:
		return errors.New("it has no version")
	case *head.Version > version:
		return fmt.Errorf("version %d was written by a later vitrine; this one knows %d", *head.Version, version)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(form)
}

// checkKeys refuses what encoding/json would let pass: a key that comes twice, of which the last would
// count, a key in another case, and anything behind the value. That text is JSON at all is seen here too.
func checkKeys(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := checkValue(d, maxDepth); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// checkValue reads one value, which has at most depth values around its innermost.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth == 0 {
		return errors.New("values are too deep in others")
	}
	known := make(map[string]bool)
	for d.More() {
		if open == '{' {
			if token, err = d.Token(); err != nil {
				return err
			}
			key, _ := token.(string)
			switch {
			case key != strings.ToLower(key):
				return fmt.Errorf("unknown field %q", clean(key, maxSubject))
			case known[key]:
				return fmt.Errorf("the field %q comes twice", clean(key, maxSubject))
			}
			known[key] = true
		}
		if err := checkValue(d, depth-1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
