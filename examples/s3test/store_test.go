package s3test_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
)

// multipart are options by which objects of 16 MiB and more are sent in several parts.
var multipart = bucket.Options{BufferSize: 5 << 20}

// TestParts: what is sent in parts is as exclusive, as whole and as invisible before its end as what is not.
func TestParts(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *s3test.Server{"versitygw": s3test.Start, "MinIO": s3test.StartMinIO} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testParts(t, start(t).Endpoint)
		})
	}
}

func testParts(t *testing.T, endpoint string) {
	proxy := s3test.NewProxy(t, endpoint)
	s := openStore(t, proxy.Endpoint, &multipart)
	data := bytes.Repeat([]byte("0123456789abcdef"), 17<<16) // 17 MiB

	require.NoError(t, write(t.Context(), s, "a", data))
	parts := slices.DeleteFunc(proxy.Requests(), func(r s3test.Request) bool { return r.Op != "PUT" })
	assert.Len(t, parts, 4)
	require.Equal(t, data, read(t, s, "a"))
	require.ErrorIs(t, write(t.Context(), s, "a", data[:16<<20]), fs.ErrExist)
	require.ErrorIs(t, write(t.Context(), s, "a", []byte("small")), fs.ErrExist)
	require.Equal(t, data, read(t, s, "a"))

	var wg sync.WaitGroup
	var errs [2]error
	for i := range errs {
		wg.Go(func() { errs[i] = write(t.Context(), s, "raced", data[i:]) })
	}
	wg.Wait()
	winner := slices.Index(errs[:], nil)
	require.GreaterOrEqual(t, winner, 0, "%v", errs)
	require.ErrorIs(t, errs[1-winner], fs.ErrExist)
	require.Equal(t, data[winner:], read(t, s, "raced"))

	posts := 0
	proxy.Script(func(r s3test.Request) s3test.Fault {
		if r.Op == "POST" {
			if posts++; posts == 2 { // the first begins the upload, the second completes it
				return s3test.DoneCut
			}
		}
		return s3test.None
	})
	if err := write(t.Context(), s, "repeated", data); err != nil { // S3 answers again as it has, others have forgotten
		require.ErrorIs(t, err, fs.ErrExist, "the caller compares")
	}
	require.Equal(t, data, read(t, s, "repeated"))
	proxy.Script(nil)

	w, err := s.Create(t.Context(), "aborted")
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	ctx, cancel := context.WithCancel(t.Context())
	w, err = s.Create(ctx, "cancelled")
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	cancel()
	_, err = w.Commit()
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, fs.ErrExist)
	require.Equal(t, []string{"a", "raced", "repeated"}, keys(t, s, ""))
}

// write writes an object.
func write(ctx context.Context, s repo.Store, key string, data []byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// read reads an object.
func read(t testing.TB, s repo.Store, key string) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	return data
}

// keys lists a store.
func keys(t testing.TB, s repo.Store, prefix string) []string {
	t.Helper()
	all := []string{}
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		all = append(all, info.Key)
	}
	return all
}
