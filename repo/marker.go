package repo

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"
)

// Format is the repository format that this version of pgcairn writes, described in FORMAT.md.
const Format = 1

const markerKey = "pgcairn.json"

// marker is the object that makes a store a repository.
type marker struct {
	Format     int       `json:"format"`
	ID         string    `json:"id"`
	Encryption string    `json:"encryption"` // "age" or "none"
	CreatedAt  time.Time `json:"created_at"`
}

// readMarker returns the marker; a store without one is ErrNoRepository.
func readMarker(ctx context.Context, s Store) (marker, error) {
	b, err := readSmall(ctx, s, markerKey, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, ErrNoRepository
	}
	if err != nil {
		return marker{}, err
	}
	// The format comes first: the rest, its checksum among it, may look otherwise in another one.
	var v struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &v); err == nil && v.Format > Format {
		return marker{}, &FormatError{Format: v.Format, Supported: Format}
	}
	var m marker
	if err := OpenRecord(markerKey, b, &m); err != nil {
		return marker{}, err
	}
	if m.Format != Format {
		return marker{}, &FormatError{Format: m.Format, Supported: Format}
	}
	if !validID(m.ID) || m.Encryption != "age" && m.Encryption != "none" {
		return marker{}, corrupt(markerKey, "malformed marker")
	}
	return m, nil
}
