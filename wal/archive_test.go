package wal_test

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

var cluster = wal.System{ID: systemID, SegmentSize: wal.MinSegmentSize}

func TestNewArchiveNeedsARepository(t *testing.T) {
	_, err := wal.NewArchive(nil, nil)
	require.Error(t, err)
}

func TestSystemOfNobody(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	_, err := a.System(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	has, err := a.Has(t.Context(), parseName(t, segment(1).Name()))
	require.NoError(t, err)
	require.False(t, has)
	require.ErrorIs(t, a.Fetch(t.Context(), segment(1).Name(), t.TempDir()+"/x"), fs.ErrNotExist)
}

func TestClaim(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	for range 3 {
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
	}
	for range 2 { // what another process sees
		s, err := a.System(t.Context())
		require.NoError(t, err)
		require.Equal(t, cluster, s)
		a = openArchive(t, store, nil)
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
	}

	err := a.Claim(t.Context(), "another", wal.System{ID: 1, SegmentSize: wal.MinSegmentSize})
	var foreign *wal.ForeignError
	require.ErrorAs(t, err, &foreign)
	require.Equal(t, &wal.ForeignError{Name: "another", Got: 1, Want: systemID}, foreign)
	require.Contains(t, err.Error(), "7500000000000000042")

	err = a.Claim(t.Context(), "me", wal.System{ID: systemID, SegmentSize: 16 << 20})
	require.ErrorContains(t, err, "16777216")
	require.NotErrorAs(t, err, &foreign)
}

func TestClaimRefusesNonsense(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	before := objects(t, store, "")
	for _, size := range []uint32{0, 1, 12345, 1 << 31} {
		require.Error(t, a.Claim(t.Context(), "me", wal.System{ID: systemID, SegmentSize: size}))
	}
	require.Equal(t, before, objects(t, store, ""))
}

func TestArchiveOfOneCluster(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	before := objects(t, store, "")
	other, err := wal.NewArchive(r, &wal.Options{SystemID: 1})
	require.NoError(t, err)
	var foreign *wal.ForeignError
	require.ErrorAs(t, push(t, other, segment(1).Name(), content(segment(1))), &foreign)
	require.Equal(t, &wal.ForeignError{Name: segment(1).Name(), Got: systemID, Want: 1}, foreign)
	require.Equal(t, before, objects(t, store, ""), "nobody has claimed the repository")

	mine, err := wal.NewArchive(r, &wal.Options{SystemID: systemID})
	require.NoError(t, err)
	require.NoError(t, push(t, mine, segment(1).Name(), content(segment(1))))
	requireHeld(t, mine, segment(1).Name(), content(segment(1)))

	_, err = other.System(t.Context())
	require.ErrorAs(t, err, &foreign)
	_, err = other.Coverage(t.Context())
	require.ErrorAs(t, err, &foreign)
	_, err = other.Has(t.Context(), parseName(t, segment(1).Name()))
	require.ErrorAs(t, err, &foreign)
	err = other.Fetch(t.Context(), segment(1).Name(), t.TempDir()+"/x")
	require.ErrorAs(t, err, &foreign)
	requireNoAnswer(t, err)
}

func TestRacingClaims(t *testing.T) {
	for range 4 {
		store := repotest.Mem(nil)
		openArchive(t, store, nil)
		const racers = 8
		errs := make([]error, racers)
		var wg sync.WaitGroup
		for i := range racers {
			a, err := reopenArchive(t, store, nil)
			require.NoError(t, err)
			b := waltest.Segment(segment(1), uint64(i+1), 18)
			wg.Go(func() { errs[i] = push(t, a, segment(1).Name(), b) })
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		require.GreaterOrEqual(t, winner, 0)
		for i, err := range errs {
			var foreign *wal.ForeignError
			if i != winner {
				require.ErrorAs(t, err, &foreign)
				require.Equal(t, &wal.ForeignError{Name: segment(1).Name(), Got: uint64(i + 1), Want: uint64(winner + 1)}, foreign)
			}
		}
		require.Len(t, objects(t, store, "systems/"), 1)
		require.Len(t, objects(t, store, "wal/"), 1)
	}
}

func TestDamagedClaim(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	require.NoError(t, a.Claim(t.Context(), "me", cluster))
	record := readObject(t, store, "systems/1")
	for i := range record {
		bad := slices.Clone(record)
		bad[i] ^= 1
		requireDamagedClaim(t, store, bad)
		requireDamagedClaim(t, store, record[:i])
	}
	requireDamagedClaim(t, store, append(slices.Clone(record), '\n'))
	for _, v := range []any{
		map[string]any{"x": 1},
		map[string]any{"system_id": "x", "segment_size": 1 << 20},
		map[string]any{"system_id": "-1", "segment_size": 1 << 20},
		map[string]any{"system_id": "1", "segment_size": 12345},
		map[string]any{"system_id": "1"},
		map[string]any{"system_id": 1, "segment_size": 1 << 20},
	} {
		b, err := repo.SealRecord("systems/1", v)
		require.NoError(t, err)
		requireDamagedClaim(t, store, b)
	}
}

func requireDamagedClaim(t *testing.T, store repo.Store, record []byte) {
	t.Helper()
	bad := copyStore(t, store, func(key string) string {
		if key == "systems/1" {
			return ""
		}
		return key
	})
	writeObject(t, bad, "systems/1", record)
	a, err := reopenArchive(t, bad, nil)
	require.NoError(t, err)
	_, err = a.System(t.Context())
	requireNoAnswer(t, err)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, "systems/1", corrupt.Key)
	requireNoAnswer(t, a.Claim(t.Context(), "me", cluster))
}

func TestHas(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	for name, want := range map[string]bool{
		segment(1).Name(): true, segment(2).Name(): false, segment(1).Name() + ".partial": false, "00000002.history": false,
	} {
		has, err := a.Has(t.Context(), parseName(t, name))
		require.NoError(t, err)
		require.Equal(t, want, has, name)
	}
	down := errors.New("down")
	for _, op := range []repotest.Operation{repotest.OpOpen, repotest.OpStat} {
		s := repotest.Faulty(store, repotest.Fault{Op: op, Key: "*/*", Do: repotest.Fail(down)}, repotest.Fault{Op: op, Key: "*/*/*/*/*", Do: repotest.Fail(down)})
		a, err := reopenArchive(t, s, nil)
		require.NoError(t, err)
		_, err = a.Has(t.Context(), parseName(t, segment(1).Name()))
		require.ErrorIs(t, err, down)
	}
}

func TestKeys(t *testing.T) {
	for name, want := range map[string]string{
		"00000002.history":                         "wal/7500000000000000042/00000002.history",
		"000000010000000A000000FE":                 "wal/7500000000000000042/00000001/0000000A000000/000000010000000A000000FE",
		"000000010000000A000000FE.partial":         "wal/7500000000000000042/00000001/0000000A000000/000000010000000A000000FE.partial",
		"000000010000000A00000ABC.00000028.backup": "wal/7500000000000000042/00000001/0000000A00000A/000000010000000A00000ABC.00000028.backup",
	} {
		key := wal.Key(cluster, parseName(t, name))
		require.Equal(t, want, key)
		n, err := wal.ParseKey(cluster, key)
		require.NoError(t, err)
		require.Equal(t, parseName(t, name), n)
	}
}
