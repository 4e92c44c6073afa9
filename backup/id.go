package backup

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// ID identifies a backup in its repository. IDs sort by the time the backup was begun, by the clock of its host:
// 20261121T101530Z-9f3c2a.
type ID string

const idTime = "20060102T150405Z"

func newID(now time.Time) ID {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return ID(now.UTC().Format(idTime) + "-" + hex.EncodeToString(b[:]))
}

// ParseID checks a text that should be an ID.
func ParseID(s string) (ID, error) {
	id := ID(s)
	if _, err := id.Time(); err != nil {
		return "", err
	}
	return id, nil
}

// Time is when the backup was begun, to the second.
func (id ID) Time() (time.Time, error) {
	at, random, ok := strings.Cut(string(id), "-")
	t, err := time.Parse(idTime, at)
	if !ok || err != nil || len(random) != 6 || strings.Trim(random, "0123456789abcdef") != "" {
		return time.Time{}, fmt.Errorf("backup: %q is not the ID of a backup", string(id))
	}
	return t, nil
}

const manifests = "backups/"

func (id ID) manifestKey() string     { return manifests + string(id) }
func (id ID) packKey(n uint64) string { return fmt.Sprintf("packs/%s/%08d", id, n) }
