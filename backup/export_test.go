package backup

import (
	"bytes"
	"context"
	"log/slog"
	"time"
)

// Encode returns the text of a manifest.
func (m *Manifest) Encode() ([]byte, error) {
	var b bytes.Buffer
	err := m.encode(&b, m.ID.manifestKey())
	return b.Bytes(), err
}

// Check tells what a manifest says that cannot be.
func (m *Manifest) Check() error { return m.check() }

// Impatient makes a source by SQL try again at once what has failed.
func Impatient(s Source) Source {
	s.(*sqlSource).pause = time.Microsecond
	return s
}

// Watchful makes a source by SQL see all the time whether the backup is still held.
func Watchful(s Source) Source {
	s.(*sqlSource).check = time.Microsecond
	return s
}

// ListBounded makes a source by SQL ask for a few directories and entries at a time.
func ListBounded(s Source, directories, entries int) Source {
	s.(*sqlSource).bounds = listBounds{directories: directories, entries: entries}
	return s
}

// Outage makes the error of a source by SQL that could not read.
func Outage(err error) error { return &outage{err: err} }

// CompareBadPages orders bad pages as a manifest does.
func CompareBadPages(a, b BadPage) int { return compareBadPages(a, b) }

// Again calls f as a query to a standby is called.
func Again(ctx context.Context, f func() error) error {
	return again(ctx, slog.New(slog.DiscardHandler), f)
}

// Unlike tells why a backup cannot build on another.
func Unlike(base *Manifest, start Start) string { return unlike(base, start) }
