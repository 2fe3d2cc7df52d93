package consent

import (
	"encoding/json"
	"fmt"
	"time"

	"vitrine/client"
)

// memoryVersion is of the file of a [Memory].
const memoryVersion = 1

type memoryForm struct {
	Version int           `json:"version"`
	Reached []reachedForm `json:"reached"`
}

type reachedForm struct {
	Authority string    `json:"authority"`
	Level     string    `json:"level"`
	At        time.Time `json:"at"`
}

// parseReached reads the text of a memory. It is as strict as parse: what is misspelt must not become forgotten.
func parseReached(text []byte) ([]Reached, error) {
	var form memoryForm
	if err := decodeStrictly(text, memoryVersion, &form); err != nil {
		return nil, err
	}
	if len(form.Reached) > maxReached {
		return nil, fmt.Errorf("%d authorities, at most %d", len(form.Reached), maxReached)
	}
	list := make([]Reached, 0, len(form.Reached))
	known := make(map[string]bool)
	for i, f := range form.Reached {
		r := Reached{Authority: f.Authority, Level: client.Level(f.Level), At: f.At.UTC()}
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("authority %d: %w", i+1, err)
		}
		if known[r.Authority] {
			return nil, fmt.Errorf("authority %d: %s comes twice", i+1, r.Authority)
		}
		known[r.Authority] = true
		list = append(list, r)
	}
	return list, nil
}

// formatReached is what parseReached reads as list. The oldest make room where names are long.
func formatReached(list []Reached) ([]byte, error) {
	for {
		form := memoryForm{Version: memoryVersion, Reached: make([]reachedForm, 0, len(list))}
		for _, r := range list {
			form.Reached = append(form.Reached, reachedForm{Authority: r.Authority, Level: string(r.Level), At: r.At.UTC()})
		}
		text, err := json.MarshalIndent(form, "", "  ")
		if err != nil {
			return nil, err
		}
		if text = append(text, '\n'); len(text) <= maxFile {
			return text, nil
		}
		list = list[1+len(list)/8:]
	}
}
