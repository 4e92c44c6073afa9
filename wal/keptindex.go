package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/zeebo/xxh3"
)

// keptIndexes are the indexes of segments that this host has archived of late: to roll them up, and for a host that cannot
// read the repository to know what its own backups need. An index is a file, indexes/<system id>/<group>/<segment> in the
// state directory, which begins with a sum of its name and content. It is written without syncing: what a crash leaves of
// one has not that sum, and is not used.
//
// The zero value keeps nothing.
type keptIndexes struct{ dir string }

func keptIndexesIn(state string) keptIndexes {
	if state == "" {
		return keptIndexes{}
	}
	return keptIndexes{dir: filepath.Join(state, "indexes")}
}

// of are those of one cluster: another's segments may have the same names.
func (k keptIndexes) of(s System) keptIndexes {
	if k.dir == "" {
		return k
	}
	return keptIndexes{dir: filepath.Join(k.dir, strconv.FormatUint(s.ID, 10))}
}

// only forgets those of clusters but one.
func (k keptIndexes) only(s System) {
	entries, _ := os.ReadDir(k.dir) // what cannot be listed is not kept
	for _, e := range entries {
		if path := filepath.Join(k.dir, e.Name()); path != k.of(s).dir {
			_ = os.RemoveAll(path)
		}
	}
}

func (k keptIndexes) group(g group) string { return filepath.Join(k.dir, g.name()) }

func (k keptIndexes) path(s Segment) string { return filepath.Join(k.group(groupOf(s)), s.Name()) }

func keptSum(s Segment, encoded []byte) [16]byte {
	h := xxh3.New128()
	_, _ = h.WriteString(s.Name() + "\n")
	_, _ = h.Write(encoded)
	return h.Sum128().Bytes()
}

// add keeps the index of a segment.
func (k keptIndexes) add(s Segment, encoded []byte) error {
	if err := os.MkdirAll(k.group(groupOf(s)), 0o700); err != nil {
		return err
	}
	sum := keptSum(s, encoded)
	f, err := os.CreateTemp(k.group(groupOf(s)), "new-") // where it goes with the group, should we be killed now
	if err != nil {
		return err
	}
	_, err = f.Write(append(sum[:], encoded...))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), k.path(s))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// read returns the index of a segment that was kept.
func (k keptIndexes) read(s Segment) ([]byte, error) {
	b, err := os.ReadFile(k.path(s))
	if err != nil {
		return nil, err
	}
	if len(b) >= 16 {
		sum := keptSum(s, b[16:])
		if bytes.Equal(b[:16], sum[:]) {
			return b[16:], nil
		}
	}
	return nil, fmt.Errorf("%s is damaged", k.path(s))
}

// parts are the two parts of an index that is kept.
func (k keptIndexes) parts(s Segment) (front, changes []byte, err error) {
	b, err := k.read(s)
	if err != nil {
		return nil, nil, err
	}
	return splitIndex(b)
}

// segments are those of a group whose indexes are kept, in order.
func (k keptIndexes) segments(g group) []Segment {
	entries, _ := os.ReadDir(k.group(g)) // what cannot be listed is not kept
	var all []Segment
	for _, e := range entries {
		if s, err := ParseSegment(e.Name(), g.first.Size); err == nil && groupOf(s) == g {
			all = append(all, s)
		}
	}
	return all
}

// groups are those of which anything is kept, the one that was added to last at the end.
func (k keptIndexes) groups(size uint32) []group {
	entries, _ := os.ReadDir(k.dir)
	var all []group
	added := map[group]time.Time{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		if g, ok := parseGroup(e.Name(), size); ok {
			all, added[g] = append(all, g), info.ModTime()
		}
	}
	slices.SortStableFunc(all, func(g, h group) int { return added[g].Compare(added[h]) })
	return all
}

// rolledMark is a file in a group that says that it was rolled up.
const rolledMark = "rolled"

func (k keptIndexes) rolled(g group) bool {
	_, err := os.Stat(filepath.Join(k.group(g), rolledMark))
	return err == nil
}

func (k keptIndexes) markRolled(g group) error {
	return os.WriteFile(filepath.Join(k.group(g), rolledMark), nil, 0o600)
}

// drop forgets a group.
func (k keptIndexes) drop(g group) { _ = os.RemoveAll(k.group(g)) }
