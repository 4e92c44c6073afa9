package repotest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"io/fs"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// TestStore checks a Store against every obligation of the interface, in subtests. Whoever implements one calls it from
// a test:
//
//	func TestMyStore(t *testing.T) {
//		repotest.TestStore(t, func(t *testing.T) repo.Store { return mystore.New(t.TempDir()) })
//	}
//
// open is called once for each subtest. It may return the same store every time, as the subtests use different keys,
// but the store has to be empty at first. It is left with some 2,500 small objects.
//
// How a store behaves when its host dies is not checked here: that takes killing processes and cutting power.
func TestStore(t *testing.T, open func(t *testing.T) repo.Store) {
	t.Helper()
	tests := []struct {
		name string
		test func(t *testing.T, s repo.Store, dir string)
	}{
		{"create and read back", testCreate},
		{"empty object", testEmpty},
		{"object in odd pieces", testPieces},
		{"big object", testBig},
		{"nothing is visible before commit", testCommitVisibility},
		{"close aborts", testAbort},
		{"a closed writer is closed", testClosedWriter},
		{"an existing object is never replaced", testExisting},
		{"of racing writers one wins", testRace},
		{"a cancelled write leaves nothing", testCancelledWrite},
		{"ranges", testRanges},
		{"concurrent readers", testConcurrentReaders},
		{"a cancelled read fails", testCancelledRead},
		{"missing objects", testMissing},
		{"a cancelled context is not an answer", testCancelledContext},
		{"delete", testDelete},
		{"list", testList},
		{"list order", testListOrder},
		{"list while others write", testListConcurrent},
		{"odd keys", testOddKeys},
		{"bad keys are refused", testBadKeys},
		{"bad prefixes are refused", testBadPrefixes},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.test(t, open(t), "t"+strconv.Itoa(i)+"/")
		})
	}
}

// pattern returns n bytes that look random and depend on nothing but n and seed.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, 0, n+8)
	for x := seed*0x9e3779b97f4a7c15 + 1; len(b) < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:n]
}

// write writes an object as far as Commit.
func write(ctx context.Context, s repo.Store, key string, data []byte) (repo.Info, error) {
	w, err := s.Create(ctx, key)
	if err != nil {
		return repo.Info{}, err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return repo.Info{}, err
	}
	return w.Commit()
}

func put(t *testing.T, s repo.Store, key string, data []byte) {
	t.Helper()
	_, err := write(t.Context(), s, key, data)
	require.NoError(t, err)
}

func get(ctx context.Context, s repo.Store, key string, off, n int64) ([]byte, error) {
	body, err := s.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// requireContent compares without printing megabytes.
func requireContent(t *testing.T, s repo.Store, key string, want []byte) {
	t.Helper()
	got, err := get(t.Context(), s, key, 0, -1)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	require.True(t, bytes.Equal(want, got), "the content differs")
	info, err := s.Stat(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, key, info.Key)
	require.Equal(t, int64(len(want)), info.Size)
}

// requireMissing demands that the store answers, in every way it can, that there is no object.
func requireMissing(t *testing.T, s repo.Store, key string) {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, n := range []int64{-1, 0, 10} {
		_, err = s.Open(t.Context(), key, 0, n)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	require.NotContains(t, list(t, s, key), key)
}

// list returns the listed keys.
func list(t *testing.T, s repo.Store, prefix string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// requireCancelled demands that an error tells of a cancelled context, and answers nothing.
func requireCancelled(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fs.ErrExist)
}
