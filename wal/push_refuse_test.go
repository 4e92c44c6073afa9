package wal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

func TestPushRefusesWhatIsNotTheSegment(t *testing.T) {
	good := content(segment(5))
	name := segment(5).Name()
	edit := func(off int, v ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[off:], v)
		return b
	}
	for what, c := range map[string]struct {
		name    string
		content []byte
	}{
		"empty":                              {name, nil},
		"one byte":                           {name, good[:1]},
		"less than a header":                 {name, good[:39]},
		"only a header":                      {name, good[:40]},
		"one page":                           {name, good[:8192]},
		"short by a byte":                    {name, good[:len(good)-1]},
		"long by a byte":                     {name, append(append([]byte(nil), good...), 0)},
		"two segments":                       {name, append(append([]byte(nil), good...), good...)},
		"never filled":                       {name, make([]byte, 1<<20)},
		"recycled":                           {name, content(segment(3))},
		"renamed":                            {segment(6).Name(), good},
		"renamed to another high part":       {"000000010000000100000005", good},
		"of a later timeline":                {name, content(segment(5).On(2))},
		"of another timeline and segment":    {segment(6).On(2).Name(), good},
		"not aligned":                        {name, edit(8, 0, 0x20)},
		"a short header":                     {name, edit(2, 0, 0)},
		"timeline 0":                         {name, edit(4, 0, 0, 0, 0)},
		"another segment size":               {name, edit(32, 0, 0, 0x20, 0)},
		"of PostgreSQL 12":                   {name, edit(0, 0x01, 0xD1)},
		"text":                               {name, bytes.Repeat([]byte("text "), 1<<18)[:1<<20]},
		"partial: short":                     {name + ".partial", good[:8192]},
		"partial: renamed":                   {segment(6).Name() + ".partial", good},
		"partial: never filled":              {name + ".partial", make([]byte, 1<<20)},
		"a name out of range for its size":   {"000000010000000000000005", waltest.Segment(wal.Segment{Timeline: 1, Number: 5, Size: 2 << 20}, systemID, 18)[:1<<20]},
		"history: empty":                     {"00000002.history", nil},
		"history: text":                      {"00000002.history", []byte("no history\n")},
		"history: of a child":                {"00000002.history", waltest.History(wal.Fork{Timeline: 2, At: 1})},
		"history: of the first timeline":     {"00000001.history", nil},
		"history: large":                     {"00000002.history", append(waltest.History(wal.Fork{Timeline: 1, At: 1}), bytes.Repeat([]byte("#\n"), 1<<20)...)},
		"history: a segment":                 {"00000002.history", good},
		"backup: empty":                      {name + ".00000028.backup", nil},
		"backup: text":                       {name + ".00000028.backup", []byte("no notes\n")},
		"backup: large":                      {name + ".00000028.backup", append([]byte(backupNotes), make([]byte, 64<<10)...)},
		"backup: a segment":                  {name + ".00000028.backup", good},
		"backup: notes in another language ": {name + ".00000028.backup", []byte("DÉBUT: 0/1000028\n")},
	} {
		t.Run(what, func(t *testing.T) {
			for _, claimed := range []bool{false, true} {
				store := repotest.Mem(nil)
				a := openArchive(t, store, nil)
				if claimed {
					require.NoError(t, a.Claim(t.Context(), "me", cluster))
				}
				before := objects(t, store, "")
				err := a.Push(t.Context(), place(t, t.TempDir(), c.name, c.content))
				var e *wal.SegmentError
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.name, e.Name)
				require.Contains(t, err.Error(), c.name)
				require.Equal(t, before, objects(t, store, ""), "nothing was written")
			}
		})
	}
}

func TestPushRefusesNames(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	for _, name := range []string{"x", "archive_status", "000000010000000000000005.gz", "00000001000000000000000G"} {
		var e *wal.NameError
		require.ErrorAs(t, a.Push(t.Context(), place(t, t.TempDir(), name, content(segment(5)))), &e, name)
	}
	var e *wal.NameError
	require.ErrorAs(t, a.Push(t.Context(), ""), &e)
	require.ErrorAs(t, a.Push(t.Context(), "/"), &e)
	require.Empty(t, objects(t, store, "wal/"))
}

func TestPushRefusesWhatIsNoFile(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	dir := t.TempDir()
	path := filepath.Join(dir, segment(5).Name())
	require.ErrorIs(t, a.Push(t.Context(), path), fs.ErrNotExist)
	require.NoError(t, os.Symlink("/dev/zero", path))
	var e *wal.SegmentError
	require.ErrorAs(t, a.Push(t.Context(), path), &e)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	require.ErrorAs(t, a.Push(t.Context(), path), &e)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(place(t, t.TempDir(), "elsewhere", content(segment(5))), path))
	require.NoError(t, a.Push(t.Context(), path), "pg_wal may be full of links, for all we care")
}

func TestPushOfAnotherCluster(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	for _, name := range []string{segment(1).Name(), segment(2).Name(), segment(2).Name() + ".partial"} {
		s, err := parseName(t, name).Segment(wal.MinSegmentSize)
		require.NoError(t, err)
		err = push(t, openArchive(t, store, nil), name, waltest.Segment(s, 99, 18))
		var e *wal.ForeignError
		require.ErrorAs(t, err, &e)
		require.Equal(t, &wal.ForeignError{Name: name, Got: 99, Want: systemID}, e)
		require.Contains(t, err.Error(), "99")
	}
	require.Len(t, objects(t, store, "wal/"), 1)
}

func TestPushAfterTheSegmentSizeChanged(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	s := wal.Segment{Timeline: 1, Number: 7, Size: 2 << 20}
	err := push(t, a, s.Name(), content(s))
	require.ErrorContains(t, err, "1048576")
	require.ErrorContains(t, err, "2097152")
	require.ErrorContains(t, err, "pg_resetwal")
	require.Len(t, objects(t, store, "wal/"), 1)
}

// TestPushOverWhatIsNoSegment: what stands under the name is no object that Push wrote.
func TestPushOverWhatIsNoSegment(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	a := newArchive(t, r)
	require.NoError(t, a.Claim(t.Context(), "me", cluster))
	key := wal.Key(cluster, parseName(t, segment(1).Name()))
	putObject(t, r, key, []byte("x"), []byte("no digest"))
	var corrupt *repo.CorruptError
	require.ErrorAs(t, push(t, a, segment(1).Name(), content(segment(1))), &corrupt)
	require.Equal(t, key, corrupt.Key)

	key = wal.Key(cluster, parseName(t, segment(2).Name()))
	writeObject(t, store, key, []byte("junk"))
	require.ErrorAs(t, push(t, a, segment(2).Name(), content(segment(2))), &corrupt)
	require.Equal(t, key, corrupt.Key)
}

// recycling is the content of a segment, until the n-th read from now on: from then on PostgreSQL overwrites it with
// another, from its start.
type recycling struct {
	mu        sync.Mutex
	n         int
	step      int // bytes that are overwritten from one read to the next
	was, will []byte
}

func (c *recycling) ReadAt(b []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n < 0 {
		written := min(-c.n*c.step, len(c.will))
		copy(c.was, c.will[:written])
	}
	return bytes.NewReader(c.was).ReadAt(b, off)
}

// A segment that is recycled while it is archived is archived as it was, or refused, whenever that begins; also where
// the archive has it already.
func TestPushOfARecycledSegment(t *testing.T) {
	name := parseName(t, segment(2).Name())
	for _, c := range []struct {
		held bool
		step int
	}{{false, 8192}, {true, 8192}, {false, wal.MinSegmentSize}, {true, wal.MinSegmentSize}} {
		for n := 0; ; n++ {
			s := heldSegments(t, 1, 2)
			a := openArchive(t, s, nil)
			if c.held {
				require.NoError(t, push(t, a, name.String(), content(segment(2))))
			}
			file := &recycling{n: n, step: c.step, was: content(segment(2)), will: content(segment(20))}
			err := a.PushContent(t.Context(), name, file, int64(len(file.was)))
			if err == nil {
				requireWhole(t, s, 2)
			} else {
				var refused *wal.SegmentError
				require.ErrorAs(t, err, &refused)
				require.NotEqual(t, c.held, lacks(t, s, 2))
			}
			if file.n >= 0 {
				require.NoError(t, err)
				require.Greater(t, n, 5)
				break
			}
		}
	}
}
