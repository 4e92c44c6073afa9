package wal_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// damaged opens a store in which an object reads otherwise than it was written.
func damaged(t *testing.T, store repo.Store, kind, key string, effect repotest.Effect) *wal.Archive {
	t.Helper()
	a, err := reopenArchive(t, repotest.Faulty(store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: effect}), options(t, kind))
	require.NoError(t, err)
	return a
}

func requireCorrupt(t *testing.T, a *wal.Archive, name string, msg ...any) {
	t.Helper()
	requireCorruptError(t, requireFetchFails(t, a, name, msg...), name, msg...)
}

func requireCorruptError(t *testing.T, err error, name string, msg ...any) {
	t.Helper()
	requireNoAnswer(t, err, msg...)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt, msg...)
	require.NotEmpty(t, corrupt.Key, msg...)
	require.Contains(t, err.Error(), name)
}

// TestEveryFlippedByteIsNoticed, and every truncation: all of a small object, and a sample of a larger one.
func TestEveryFlippedByteIsNoticed(t *testing.T) {
	for _, kind := range kinds {
		store := held(t, kind)
		for name, samples := range map[string]int64{"00000002.history": 1 << 40, segment(1).Name(): 40} {
			key := wal.Key(cluster, parseName(t, name))
			size := int64(len(readObject(t, store, key)))
			step := max(1, size/samples)
			for off := int64(0); off < size; off += step {
				for how, effect := range map[string]repotest.Effect{"flipped": repotest.Flip(off), "cut": repotest.Truncate(off)} {
					err := damaged(t, store, kind, key, effect).Read(t.Context(), name, io.Discard)
					requireCorruptError(t, err, name, "%s, %s: %s at %d of %d", kind, name, how, off, size)
				}
			}
			for _, off := range []int64{0, 20, size / 3, size / 2, size - 1} {
				requireCorrupt(t, damaged(t, store, kind, key, repotest.Flip(off)), name)
				requireCorrupt(t, damaged(t, store, kind, key, repotest.Truncate(off)), name)
			}
		}
	}
}

func TestDamagedDataKeyIsNoticed(t *testing.T) {
	store := held(t, "encrypted")
	key := objects(t, store, "keys/")[0]
	size := int64(len(readObject(t, store, key)))
	for off := range size {
		for how, effect := range map[string]repotest.Effect{"flipped": repotest.Flip(off), "cut": repotest.Truncate(off)} {
			err := damaged(t, store, "encrypted", key, effect).Read(t.Context(), "00000002.history", io.Discard)
			requireNoAnswer(t, err, "%s at %d of %d", how, off, size)
		}
	}
}

func TestAppendedBytesAreNoticed(t *testing.T) {
	for _, kind := range kinds {
		store := held(t, kind)
		for _, name := range []string{"00000002.history", segment(1).Name()} {
			key := wal.Key(cluster, parseName(t, name))
			object := readObject(t, store, key)
			for what, more := range map[string][]byte{"a zero": {0}, "an empty skippable frame": {0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0}, "itself": object} {
				bad := copyStore(t, store, func(k string) string {
					if k == key {
						return ""
					}
					return k
				})
				writeObject(t, bad, key, append(bytes.Clone(object), more...))
				requireCorrupt(t, openArchive(t, bad, options(t, kind)), name, "%s, %s: %s appended", kind, name, what)
			}
		}
	}
}

func TestSwappedObjectsAreNoticed(t *testing.T) {
	for _, kind := range kinds {
		store := repotest.Mem(nil)
		a := openArchive(t, store, options(t, kind))
		names := []string{segment(1).Name(), segment(2).Name(), segment(1).On(2).Name(), segment(1).Name() + ".partial"}
		for _, name := range names {
			s, err := parseName(t, name).Segment(wal.MinSegmentSize)
			require.NoError(t, err)
			require.NoError(t, push(t, a, name, content(s)))
		}
		one := wal.Key(cluster, parseName(t, names[0]))
		for _, name := range names[1:] {
			other := wal.Key(cluster, parseName(t, name))
			swapped := copyStore(t, store, func(key string) string {
				switch key {
				case one:
					return other
				case other:
					return one
				}
				return key
			})
			requireCorrupt(t, openArchive(t, swapped, options(t, kind)), names[0], name)
			requireCorrupt(t, openArchive(t, swapped, options(t, kind)), name)
		}
	}
}

// TestForgedObjectsAreNoticed: objects that are whole, written by somebody who can write to the repository.
func TestForgedObjectsAreNoticed(t *testing.T) {
	label := func(b []byte) []byte {
		sum := digest(b)
		return sum[:]
	}
	good, other := content(segment(1)), content(segment(2))
	foreign := waltest.Segment(segment(1), 99, 18)
	double := waltest.Segment(wal.Segment{Timeline: 1, Number: 1, Size: 2 << 20}, systemID, 18)
	name := segment(1).Name()
	for what, c := range map[string]struct {
		name    string
		content []byte
		label   []byte
	}{
		"another segment":             {name, other, label(other)},
		"another timeline":            {name, content(segment(1).On(2)), label(content(segment(1).On(2)))},
		"another cluster":             {name, foreign, label(foreign)},
		"nothing":                     {name, nil, label(nil)},
		"a part of it":                {name, good[:8192], label(good[:8192])},
		"more than it":                {name, append(bytes.Clone(good), 0), label(append(bytes.Clone(good), 0))},
		"another segment size":        {name, double, label(double)},
		"another segment size, cut":   {name, double[:1<<20], label(double[:1<<20])},
		"zeros":                       {name, make([]byte, 1<<20), label(make([]byte, 1<<20))},
		"partial: another segment":    {name + ".partial", other, label(other)},
		"a history that is too large": {"00000002.history", make([]byte, 1<<20+1), label(make([]byte, 1<<20+1))},
	} {
		for _, kind := range kinds {
			store := repotest.Mem(nil)
			r, err := repo.Init(t.Context(), store, options(t, kind))
			require.NoError(t, err)
			a := newArchive(t, r)
			require.NoError(t, a.Claim(t.Context(), "me", cluster))
			putObject(t, r, wal.Key(cluster, parseName(t, c.name)), c.content, c.label)
			requireCorrupt(t, a, c.name, fmt.Sprintf("%s, %s", what, kind))
		}
	}
}

// TestForgedDigest: a digest in an object's head that is not the content's is noticed by Fetch, and by Push.
func TestForgedDigest(t *testing.T) {
	for _, kind := range kinds {
		store := repotest.Mem(nil)
		r, err := repo.Init(t.Context(), store, options(t, kind))
		require.NoError(t, err)
		a := newArchive(t, r)
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
		forged := digest([]byte("something else"))
		putObject(t, r, wal.Key(cluster, parseName(t, segment(1).Name())), content(segment(1)), forged[:])
		var corrupt *repo.CorruptError
		require.ErrorAs(t, a.Read(t.Context(), segment(1).Name(), io.Discard), &corrupt)
		var e *wal.ConflictError
		require.ErrorAs(t, push(t, a, segment(1).Name(), content(segment(1))), &e)
		require.Equal(t, forged, e.Archived)
	}
}

// TestAnObjectThatExpands to far more than a segment is given up on early.
func TestAnObjectThatExpands(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	a := newArchive(t, r)
	require.NoError(t, a.Claim(t.Context(), "me", cluster))
	key := wal.Key(cluster, parseName(t, segment(1).Name()))
	putObject(t, r, key, make([]byte, 64<<20), make([]byte, 32))
	require.Less(t, len(readObject(t, store, key)), 64<<10)
	var w countingWriter
	requireNoAnswer(t, a.Read(t.Context(), segment(1).Name(), &w))
	require.LessOrEqual(t, int64(w), int64(1<<20+1))
}

type countingWriter int64

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}
