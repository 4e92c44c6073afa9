package wal_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// indexOf indexes content.
func indexOf(t *testing.T, s wal.Segment, content []byte) *wal.Index {
	t.Helper()
	ix, err := wal.IndexSegment(s, bytes.NewReader(content))
	require.NoError(t, err)
	return ix
}

// A segment's index comes with it, and can be read without it.
func TestIndexOfAnArchivedSegment(t *testing.T) {
	t.Parallel()
	s, front := pages(t, "pg18")
	content := append(bytes.Clone(front), make([]byte, int(s.Size)-len(front))...)
	h, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	want := indexOf(t, s, content)
	require.NotEmpty(t, want.Events)
	for _, kind := range kinds {
		store := repotest.Mem(nil)
		writer := options(t, kind)
		if kind != "plain" {
			writer = &repo.Options{Cipher: cipher(t, "")} // reads nothing
		}
		require.NoError(t, openArchive(t, store, writer).PushContent(t.Context(), parseName(t, s.Name()), bytes.NewReader(content), int64(s.Size)))
		var asked int64
		a := openArchive(t, repo.Observe(store, func(op repo.Op) {
			if len(op.Key) > 4 && op.Key[:4] == "wal/" {
				asked += op.Bytes
			}
		}), options(t, kind))
		got, err := a.Index(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Less(t, asked, int64(300<<10))
		requireHeld(t, a, s.Name(), content)

		_, err = a.Index(t.Context(), s.Next())
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = a.Index(t.Context(), wal.Segment{Timeline: 1, Number: s.Number, Size: 2 * s.Size})
		requireNoAnswer(t, err)
	}
	_, err = openArchive(t, repotest.Mem(nil), nil).Index(t.Context(), s)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, h.Start, s.Start())
}

// What cannot be read is archived all the same, and its index says so.
func TestIndexOfAnArchivedSegmentWithoutRecords(t *testing.T) {
	t.Parallel()
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	s := segment(3)
	b := noisy(s)
	require.NoError(t, push(t, a, s.Name(), b))
	ix, err := a.Index(t.Context(), s)
	require.NoError(t, err)
	require.NotEmpty(t, ix.Damage)
	require.Less(t, ix.End, s.End())
	requireHeld(t, a, s.Name(), b)
}

// An index that was put into another segment's object, or is none, is noticed; where there is none, the content is read.
func TestForgedIndexes(t *testing.T) {
	t.Parallel()
	s := segment(1)
	other, err := indexOf(t, segment(2), content(segment(2))).MarshalBinary()
	require.NoError(t, err)
	for what, notes := range map[string][]byte{"another's": other, "none": []byte("no index"), "missing": nil} {
		for _, kind := range kinds {
			r, err := repo.Init(t.Context(), repotest.Mem(nil), options(t, kind))
			require.NoError(t, err)
			a := newArchive(t, r)
			require.NoError(t, a.Claim(t.Context(), "me", cluster))
			sum := digest(content(s))
			putWithNotes(t, r, wal.Key(cluster, parseName(t, s.Name())), content(s), sum[:], notes)
			ix, err := a.Index(t.Context(), s)
			if notes == nil {
				require.NoError(t, err, what)
				require.Equal(t, indexOf(t, s, content(s)), ix)
				continue
			}
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt, what)
			requireNoAnswer(t, err)
		}
	}
}

// Hundreds of real segments, pushed by several processes at once: their indexes tell together what all records tell,
// and a group of them is rolled up.
func TestIndexesOfManyProcesses(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Major: pgtest.Newest(), SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"wal_keep_size": "1GB", "autovacuum": "off", "wal_init_zero": "off", "max_wal_size": "1GB", "max_prepared_transactions": "5",
	}})
	mix(t, c)
	c.Exec(t, "CREATE TABLE big (id int PRIMARY KEY, a text)",
		"INSERT INTO big SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 700000) i", "DELETE FROM big WHERE id > 660000", "VACUUM big",
		"SELECT pg_switch_wal()")
	content := liveWAL(t, c)
	n := len(content) >> 20
	h, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	first := uint64(h.Start) >> 20
	require.Greater(t, first+uint64(n), uint64(256+64), "less than a group and what may come late")

	a, do := openDir(t, "plain")
	for i := range n {
		s := segment(first + uint64(i))
		place(t, do.Dir, s.Name(), content[i<<20:(i+1)<<20])
	}
	const processes = 4
	var children []*child
	for k := processes - 1; k >= 0; k-- { // the last part first
		part := do
		part.Do, part.From, part.To = "once", first+uint64(k*n/processes), first+uint64((k+1)*n/processes)
		children = append(children, startChild(t, part))
	}
	for _, p := range children {
		_, err := p.in.Write([]byte("go\n"))
		require.NoError(t, err)
	}
	for _, p := range children {
		p.rest(t)
		require.NoError(t, p.cmd.Wait())
	}
	var segments []wal.Segment
	var all []*wal.Index
	for i := range n {
		s := segment(first + uint64(i))
		ix, err := a.Index(t.Context(), s)
		require.NoError(t, err)
		segments, all = append(segments, s), append(all, ix)
	}
	got, err := wal.Summarize(all...)
	require.NoError(t, err)
	store, err := repo.OpenDir(do.Repo, nil)
	require.NoError(t, err)
	require.NotEmpty(t, objects(t, store, "indexes/"))
	rolled, err := a.Indexes(t.Context(), segments, true)
	require.NoError(t, err)
	for i, ix := range rolled {
		require.Equal(t, all[i], ix, "%s", segments[i])
	}
	want, err := wal.Replay(content, got.From, got.To)
	require.NoError(t, err)
	requireSameSummary(t, want, got)
}
