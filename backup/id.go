package backup

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ID identifies a backup in its repository. IDs sort by the time the backup was begun, by the clock of its host:
// 20261121T101530Z-9f3c2a.
type ID string

const idTime = "20060102T150405Z"

// newID makes an ID that sorts after another one: it is of a later time than now where that one is.
func newID(now time.Time, after ID) ID {
	const all = 1 << 24
	low, room := uint32(0), uint32(all)
	if t, err := after.Time(); err == nil && t.After(now) {
		now = t
	}
	at := now.UTC().Format(idTime)
	if suffix, ok := strings.CutPrefix(string(after), at+"-"); ok {
		last, _ := strconv.ParseUint(suffix, 16, 24)
		low = uint32(last) + 1
		room = min(all-low, 1<<16) // leave some for those to come
	}
	if room == 0 {
		return newID(now.Add(time.Second), "")
	}
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return ID(fmt.Sprintf("%s-%06x", at, low+binary.BigEndian.Uint32(b[:])%room))
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

const (
	manifests  = "backups/"
	packFolder = "packs/"
)

func (id ID) manifestKey() string     { return manifests + string(id) }
func (id ID) packKey(n uint64) string { return fmt.Sprintf(packFolder+"%s/%08d", id, n) }

// parsePackKey tells which pack of which backup a key is of; ok is false for any other key.
func parsePackKey(key string) (id ID, n uint64, ok bool) {
	first, number, _ := strings.Cut(strings.TrimPrefix(key, packFolder), "/")
	id, err := ParseID(first)
	if err != nil {
		return "", 0, false
	}
	n, err = strconv.ParseUint(number, 10, 64)
	return id, n, err == nil && id.packKey(n) == key
}
