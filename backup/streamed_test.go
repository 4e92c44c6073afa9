package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
)

// streamed is a cluster whose server sends its files, in any order, and can send differences.
type streamed struct {
	*backuptest.Cluster
	random *rand.Rand
	was    map[backup.ID]map[string][]byte // what files were like; nil for a server that sends no differences
	fail   func(sent int) error            // when set, is asked before each file
	odd    *backup.Sent                    // when set, is sent in the middle, with a byte of content
}

// took remembers what the files are like in a backup that was taken.
func (s *streamed) took(t *testing.T, id backup.ID) {
	t.Helper()
	if s.was == nil {
		return
	}
	s.was[id] = map[string][]byte{}
	for _, p := range s.Files() {
		b, err := s.Read(p)
		require.NoError(t, err)
		s.was[id][p] = b
	}
}

// Begin implements backup.Source.
func (s *streamed) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	session, err := s.Cluster.Begin(ctx, o)
	return &streamedSession{Session: session, from: s}, err
}

type streamedSession struct {
	backup.Session
	from *streamed
	list []backup.Entry
	was  map[string][]byte
	sent int
	io.Reader
}

// Send implements backup.Streamer.
func (s *streamedSession) Send(ctx context.Context, base *backup.Manifest) (backup.Sending, error) {
	var sending backup.Sending
	for e, err := range s.Session.(backup.Lister).Files(ctx) {
		if err != nil {
			return sending, err
		}
		s.list = append(s.list, e)
		sending.Total += e.Size
	}
	s.from.random.Shuffle(len(s.list), func(i, j int) { s.list[i], s.list[j] = s.list[j], s.list[i] })
	if base != nil {
		s.was, sending.Difference = s.from.was[base.ID], s.from.was != nil
		sending.Reason = "it sends no differences"
	}
	if !sending.Difference {
		s.list = append(s.list, backup.Entry{Path: "backup_manifest", Size: -1})
	}
	return sending, nil
}

// Next implements backup.Streamer.
func (s *streamedSession) Next(ctx context.Context) (backup.Sent, error) {
	if len(s.list) == 0 {
		return backup.Sent{}, io.EOF
	}
	if s.from.fail != nil {
		if err := s.from.fail(s.sent); err != nil {
			return backup.Sent{}, err
		}
	}
	if s.from.odd != nil && s.sent == 10 {
		s.sent++
		s.Reader = strings.NewReader("x")
		return *s.from.odd, nil
	}
	e := backup.Sent{Entry: s.list[0]}
	s.list, s.sent = s.list[1:], s.sent+1
	switch {
	case e.Dir:
		return e, nil
	case e.Path == "backup_manifest":
		s.Reader = strings.NewReader("a manifest")
		return e, nil
	}
	c, err := s.Open(ctx, e.Path)
	if err != nil {
		return backup.Sent{}, err
	}
	content, err := io.ReadAll(io.NewSectionReader(c, 0, e.Size))
	if err != nil {
		return backup.Sent{}, err
	}
	was, known := s.was[e.Path]
	if known && strings.HasPrefix(e.Path, "base/5/2") && !strings.Contains(e.Path, "_") && len(content)%8192 == 0 {
		content = parts(&e, content, was)
	}
	s.Reader = bytes.NewReader(content)
	return e, nil
}

// parts makes a file one of which only what has changed is sent.
func parts(e *backup.Sent, content, was []byte) (sent []byte) {
	e.Part, e.Same = true, e.Size
	if len(was) < len(content) {
		was = append(bytes.Clone(was), make([]byte, len(content)-len(was))...)
	}
	for off := 0; off < len(content); off += 8192 {
		page := content[off : off+8192]
		if bytes.Equal(page, was[off:off+8192]) {
			continue
		}
		sent = append(sent, page...)
		if n := len(e.Ranges); n > 0 && e.Ranges[n-1].Offset+int64(e.Ranges[n-1].Length) == int64(off) {
			e.Ranges[n-1].Length += 8192
		} else {
			e.Ranges = append(e.Ranges, backup.Range{Offset: int64(off), Length: 8192})
		}
	}
	return sent
}

func newStreamed(c *backuptest.Cluster) *streamed {
	return &streamed{Cluster: c, random: rand.New(rand.NewPCG(5, 5))}
}

// What a server sends is stored as what is read.
func TestSent(t *testing.T) {
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 3000, 1<<16, "larger than a task"))
	c.Write("base/5/30001", make([]byte, 1<<20))
	c.Write("extra/empty", nil)
	r := newRepo(t, nil, nil)
	var last backup.Progress
	m, err := backup.Take(t.Context(), r, newStreamed(c), &backup.Options{Jobs: 3, Progress: func(p backup.Progress) { last = p }})
	require.NoError(t, err)
	requireRestores(t, r, m, c)
	read, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	require.Equal(t, read.FileList, m.FileList)
	require.Equal(t, read.Directories, m.Directories)
	require.Equal(t, m.Files, last.Files)
	require.Equal(t, m.ClusterBytes, m.ReadBytes)
	require.Equal(t, m.ReadBytes, last.ReadBytes)

	text, err := backup.ServerManifest(t.Context(), r, m.ID)
	require.NoError(t, err)
	defer text.Close()
	b, err := io.ReadAll(text)
	require.NoError(t, err)
	require.Equal(t, "a manifest", string(b))
}

// A server that fails, or sends what cannot be, leaves no backup, and nothing of one.
func TestSentFails(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 300, 1<<16, "x"))
	broken := errors.New("broken")
	for n := 0; ; n += 7 {
		s := newStreamed(c)
		reached := false
		s.fail = func(sent int) error {
			if sent == n {
				reached = true
				return broken
			}
			return nil
		}
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, s, nil)
		if !reached {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, broken)
		requireEmpty(t, r)
	}
	// When all has been sent.
	c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpStop {
			return broken
		}
		return nil
	}})
	r := newRepo(t, nil, nil)
	_, err := backup.Take(t.Context(), r, newStreamed(c), nil)
	require.ErrorIs(t, err, broken)
	requireEmpty(t, r)
}

// What a server should not send is refused.
func TestSentOdd(t *testing.T) {
	for want, odd := range map[string]backup.Sent{
		"not one of a data directory": {Entry: backup.Entry{Path: "../outside", Size: 1}},
		"does not belong in a backup": {Entry: backup.Entry{Path: "pg_wal/000000010000000000000001", Size: 1}},
		"listed twice":                {Entry: backup.Entry{Path: "PG_VERSION", Size: 1}},
		"unexpected EOF":              {Entry: backup.Entry{Path: "short", Size: 2}},
		"the base does not have":      {Entry: backup.Entry{Path: "base/5/90000", Size: 8192}, Part: true},
	} {
		t.Run(want, func(t *testing.T) {
			r := newRepo(t, nil, nil)
			s := newStreamed(backuptest.New(nil))
			s.odd = &odd
			_, err := backup.Take(t.Context(), r, s, nil)
			require.ErrorContains(t, err, want)
			requireEmpty(t, r)
		})
	}
}

// requireEmpty requires that there is nothing of a backup.
func requireEmpty(t *testing.T, r *repo.Repo) {
	t.Helper()
	for _, prefix := range []string{"backups/", "packs/", "server-manifests/"} {
		for info, err := range r.Store().List(t.Context(), prefix) {
			require.NoError(t, err)
			require.Fail(t, "something is left", info.Key)
		}
	}
}

// What a killed backup has left of large files is taken over from what is sent, too.
func TestSentTakesOver(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 3000, 1<<16, "large"))
	have, err := c.Read("base/5/30000")
	require.NoError(t, err)
	have[1700*8192+5000] ^= 1 // a bad page
	c.Write("base/5/30000", have)
	h := newHost(t, nil)
	require.NotEmpty(t, h.leave(t, newStreamed(c), nil))
	copy(have, backuptest.Pages(0, 1, 1<<17, "changed since"))
	c.Write("base/5/30000", have)

	m := h.take(t, newStreamed(c), nil)
	require.Equal(t, backup.Full, m.Type)
	require.Greater(t, m.ReusedBytes, m.StoredBytes)
	require.Equal(t, []backup.BadPage{{Path: "base/5/30000", Block: 1700}}, m.BadPageList)
	requireRestores(t, h.open(t, h.store), m, c)
}

// A page that has become zero is not taken from the base, wherever the base has it: here that lies between pages which a
// frame of a later backup holds.
func TestSentPagesBecomeZero(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	const name, pages = "base/5/30000", 1000
	c.Write(name, backuptest.Pages(0, pages, 1<<16, "old"))
	r := newRepo(t, nil, nil)
	full, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	have, err := c.Read(name)
	require.NoError(t, err)
	for n := uint32(0); n < pages; n += 2 {
		copy(have[n*8192:], backuptest.Pages(n, 1, uint64(full.StopLSN)+8, "new"))
	}
	c.Write(name, have)
	_, err = backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental, Method: backup.ByLSN})
	require.NoError(t, err)
	for n := 1; n < pages; n += 2 {
		clear(have[n*8192 : (n+1)*8192])
	}
	c.Write(name, have)
	m, err := backup.Take(t.Context(), r, newStreamed(c), &backup.Options{Type: backup.Incremental, Method: backup.ByCompare})
	require.NoError(t, err)
	requireRestores(t, r, m, c)
}

// Of pages that the base does not have, an old LSN does not tell that it has them.
func TestSentPagesThatTheBaseLacks(t *testing.T) {
	t.Parallel()
	for _, source := range []func(*backuptest.Cluster) backup.Source{
		func(c *backuptest.Cluster) backup.Source { return c },
		func(c *backuptest.Cluster) backup.Source { return newStreamed(c) },
	} {
		c := backuptest.New(nil)
		const name = "base/5/30000"
		old := backuptest.Pages(0, 6, 8, "old")
		have := bytes.Clone(old[:4*8192])
		clear(have[8192 : 2*8192])
		c.Write(name, have)
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		c.Write(name, old) // a page that was zero, and two more
		m, err := backup.Take(t.Context(), r, source(c), &backup.Options{Type: backup.Incremental, Method: backup.ByLSN})
		require.NoError(t, err)
		requireRestores(t, r, m, c)
	}
}
