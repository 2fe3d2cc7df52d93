package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/httpsig"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

func specification(t *testing.T) string {
	text, err := os.ReadFile("vitrine.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheCodePointsAreThoseOfTheCode holds the tables of section 16 to the constants.
func TestTheCodePointsAreThoseOfTheCode(t *testing.T) {
	text := specification(t)
	_, table, _ := strings.Cut(text, "\n## 16. Code points\n")
	table, _, _ = strings.Cut(table, "\n## ")
	want := []string{
		"| `" + frames.ALPNH2 + "` | hop 2 |",
		"| `" + frames.ALPNH3 + "` | hop 2 |",
		"| `" + frames.ALPNRaw + "` | hop 2 |",
		fmt.Sprintf("| 0x%04x | `inspection` |", tlsmsg.ExtensionInspection),
		fmt.Sprintf("| settings | %#x | SETTINGS_ITLS |", frames.SettingITLS),
		fmt.Sprintf("| settings | %#x | SETTINGS_HOP_BINDING |", frames.SettingHopBinding),
		fmt.Sprintf("| frame types | %#x | EVIDENCE |", frames.TypeEvidence),
		fmt.Sprintf("| frame types | %#x | VERDICT |", frames.TypeVerdict),
		fmt.Sprintf("| error codes | %#x | KILLED |", frames.CodeKilled),
		"| upgrade tokens | `" + frames.Protocol + "` |",
		fmt.Sprintf("| status codes | %d |", frames.StatusInspectionRequired),
		"| field names | `" + fields.EvidenceRequest + "` |",
		"| field names | `" + fields.InspectionOptions + "` |",
		"| field names | `" + fields.EvidenceID + "` |",
		"| tags of HTTP message signatures (RFC 9421, section 2.3) | `" + httpsig.Tag + "` |",
		"| " + pki.OIDProxyAuthentication().String() + " | proxyAuthentication",
	}
	for _, row := range want {
		if !strings.Contains(table, row) {
			t.Errorf("section 16 has no row %q", row)
		}
	}
}

// TestTheSignatureBaseIsThatOfTheVector holds the example of section 6.7 to the vector that it shows.
func TestTheSignatureBaseIsThatOfTheVector(t *testing.T) {
	v, err := os.ReadFile("vectors/testdata/response-signature/plain")
	if err != nil {
		t.Fatal(err)
	}
	_, encoded, _ := strings.Cut(string(v), "\nbase: ")
	encoded, _, _ = strings.Cut(encoded, "\n")
	base, err := hex.DecodeString(encoded)
	if err != nil || len(base) == 0 {
		t.Fatalf("no base: %v", err)
	}
	text := specification(t)
	unbroken := strings.ReplaceAll(text, " \\\n    ", " ")
	unbroken = strings.ReplaceAll(unbroken, "\\\n    ", "")
	if shown := "    " + strings.ReplaceAll(string(base), "\n", "\n    ") + "\n"; !strings.Contains(unbroken, shown) {
		t.Errorf("the text does not show\n%s", shown)
	}
	if sum := fmt.Sprintf("`%x`", sha256.Sum256(base)); !strings.Contains(text, sum) {
		t.Errorf("the text does not have its hash, %s", sum)
	}
}

// TestTheReferencesAreComplete holds section 17 to what the text cites, in both directions.
func TestTheReferencesAreComplete(t *testing.T) {
	body, references, found := strings.Cut(specification(t), "\n## 17. References\n")
	if !found {
		t.Fatal("no section 17")
	}
	references, appendices, _ := strings.Cut(references, "\n## ")
	body += appendices
	cited := map[string]bool{"RFC2119": true, "RFC8174": true}
	for _, m := range regexp.MustCompile(`\[?RFC ?(\d+)`).FindAllStringSubmatch(body, -1) {
		cited["RFC"+m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\[([A-Z]{5,})\]`).FindAllStringSubmatch(body, -1) {
		cited[m[1]] = true
	}
	if strings.Contains(body, "UTS #46") {
		cited["UTS46"] = true
	}
	var listed []string
	for _, m := range regexp.MustCompile(`\[([A-Z]+\d*)\]`).FindAllStringSubmatch(references, -1) {
		listed = append(listed, m[1])
		if !cited[m[1]] {
			t.Errorf("[%s] is listed and not cited", m[1])
		}
	}
	for name := range cited {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is cited and not listed", name)
		}
	}
}

// TestTheSectionsAreThere fails for a section that the text points to and that does not exist, and for one that the contents leave out.
func TestTheSectionsAreThere(t *testing.T) {
	text := specification(t)
	sections := map[string]bool{}
	contents, _, _ := strings.Cut(text[strings.Index(text, "## Contents"):], "\n## 1. ")
	for _, m := range regexp.MustCompile(`(?m)^##+ (\d+(?:\.\d+)?)\.? `).FindAllStringSubmatch(text, -1) {
		sections[m[1]] = true
		if !strings.Contains(m[1], ".") && !strings.Contains(contents, "\n"+m[1]+". ") {
			t.Errorf("the contents leave out section %s", m[1])
		}
	}
	own := regexp.MustCompile(`(RFC \d+,? \(?)?[Ss]ection (\d+(?:\.\d+)*)`)
	for _, m := range own.FindAllStringSubmatch(strings.ReplaceAll(text, "\n", " "), -1) {
		if m[1] == "" && !sections[m[2]] {
			t.Errorf("there is no section %s", m[2])
		}
	}
}
