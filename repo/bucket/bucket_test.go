package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestConformance(t *testing.T) {
	for name, o := range map[string]*bucket.Options{
		"defaults":                nil,
		"small buffer and prefix": {BufferSize: 100, Prefix: "some/where"},
	} {
		t.Run(name, func(t *testing.T) {
			repotest.TestStore(t, func(t *testing.T) repo.Store {
				b := memblob.OpenBucket(nil)
				t.Cleanup(func() { assert.NoError(t, b.Close()) })
				return bucket.New(b, o)
			})
		})
	}
	t.Run("driver with the manners of real ones", func(t *testing.T) {
		repotest.TestStore(t, func(*testing.T) repo.Store {
			return bucket.New((&scripted{}).bucket(), &bucket.Options{BufferSize: 1 << 20})
		})
	})
}

func TestBucketPrefix(t *testing.T) {
	b := memblob.OpenBucket(nil)
	defer b.Close()
	for _, prefix := range []string{"a", "ab/", "a/b"} {
		require.NoError(t, writeObject(bucket.New(b, &bucket.Options{Prefix: prefix}), "key", prefix))
	}
	for name, want := range map[string]string{"a/key": "a", "ab/key": "ab/", "a/b/key": "a/b"} {
		got, err := b.ReadAll(t.Context(), name)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	keys := func(prefix string) (keys []string) {
		for info, err := range bucket.New(b, &bucket.Options{Prefix: prefix}).List(t.Context(), "") {
			require.NoError(t, err)
			keys = append(keys, info.Key)
		}
		return keys
	}
	assert.Equal(t, []string{"b/key", "key"}, keys("a"))
	assert.Equal(t, []string{"key"}, keys("ab"))

	for _, bad := range []string{"/", "/a", "a//", "../a", "a/./b"} {
		s := bucket.New(b, &bucket.Options{Prefix: bad})
		var keyErr *repo.KeyError
		require.ErrorAs(t, writeObject(s, "key", ""), &keyErr, bad)
		for _, err := range s.List(t.Context(), "") {
			require.ErrorAs(t, err, &keyErr, bad)
		}
	}
}

func TestBucketSendsOneRequest(t *testing.T) {
	d := &scripted{}
	called := 0
	s := bucket.New(d.bucket(), &bucket.Options{BeforeWrite: func(func(any) bool) error {
		called++
		return nil
	}})
	require.NoError(t, writeObject(s, "a", "0123456789"))
	assert.Equal(t, []string{"PUT a"}, d.log)
	require.Len(t, d.options, 1)
	assert.True(t, d.options[0].IfNotExist)
	assert.Equal(t, 11, d.options[0].BufferSize, "more than the object, or azureblob sends it in parts")
	assert.Equal(t, 1, called)

	refuse := errors.New("no")
	s = bucket.New(d.bucket(), &bucket.Options{BeforeWrite: func(func(any) bool) error { return refuse }})
	err := writeObject(s, "b", "")
	require.ErrorIs(t, err, refuse)
	requireNoAnswer(t, err)
	require.ErrorIs(t, writeObject(bucket.New(d.bucket(), nil), "a", ""), fs.ErrExist)
}

func TestBucketRefusalOfAStreamedObject(t *testing.T) {
	d := &scripted{}
	s := bucket.New(d.bucket(), &bucket.Options{BufferSize: 10})
	require.NoError(t, writeObject(s, "a", "a first object, longer than the buffer"))
	err := writeObject(s, "a", "a second object, longer than the buffer")
	require.ErrorIs(t, err, fs.ErrExist)
	assert.Equal(t, gcerrors.FailedPrecondition, gcerrors.Code(err), "the driver's error is inside")
	assert.Equal(t, 5<<20, d.options[0].BufferSize, "S3 has no smaller parts")

	early := errors.New("refused at once")
	s = bucket.New(d.bucket(), &bucket.Options{BufferSize: 10, BeforeWrite: func(func(any) bool) error { return early }})
	w, err := s.Create(t.Context(), "b")
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 100)) // does not wait for a reader that is gone
	require.ErrorIs(t, err, early)
	_, err = w.Commit()
	require.ErrorIs(t, err, early)
	require.NoError(t, w.Close())
}

func TestBucketRefusalIsConfirmed(t *testing.T) {
	d := &scripted{upload: func(string) error { return coded{errors.New("409 BlobAlreadyExists"), gcerrors.FailedPrecondition} }}
	s := bucket.New(d.bucket(), nil)
	requireNoAnswer(t, writeObject(s, "a", ""))

	d.attributes = func(string) error { return errors.New("403 Forbidden") } // credentials that may only write
	require.ErrorIs(t, writeObject(s, "a", ""), fs.ErrExist)
}

// A service that refuses a large body early, or whose answer is lost, leaves the client with no more than a broken
// connection. What is there then is what counts.
func TestBucketUploadWithoutAnAnswer(t *testing.T) {
	broken := errors.New("connection reset by peer")
	there := map[string][]byte{"a": []byte("somebody's")}
	tests := []struct {
		name    string
		objects map[string][]byte
		upload  func(d *scripted) error
		stat    error
		exists  bool
	}{
		{name: "refused", objects: there, upload: func(*scripted) error { return broken }, exists: true},
		{name: "done", upload: func(d *scripted) error {
			d.objects = map[string][]byte{"a": []byte("data")}
			return broken
		}, exists: true},
		{name: "not done", upload: func(*scripted) error { return broken }},
		{name: "nothing answers", objects: there, upload: func(*scripted) error { return broken }, stat: broken},
		{name: "locked", objects: there, upload: func(*scripted) error { return coded{broken, gcerrors.PermissionDenied} }, exists: true},
		{name: "not permitted", upload: func(*scripted) error { return coded{broken, gcerrors.PermissionDenied} }},
		{name: "no such bucket", upload: func(*scripted) error { return notFound("NoSuchBucket") }},
	}
	for _, tt := range tests {
		for size, o := range map[string]*bucket.Options{"": nil, ", streamed": {BufferSize: 1}} {
			t.Run(tt.name+size, func(t *testing.T) {
				d := &scripted{objects: tt.objects}
				d.upload = func(string) error { return tt.upload(d) }
				d.attributes = func(string) error { return tt.stat }
				err := writeObject(bucket.New(d.bucket(), o), "a", "data")
				if tt.exists {
					require.ErrorIs(t, err, fs.ErrExist)
					require.ErrorIs(t, err, broken, "the driver's error is inside")
				} else {
					requireNoAnswer(t, err)
				}
			})
		}
	}
	d := &scripted{objects: there}
	ctx, cancel := context.WithCancel(t.Context())
	d.upload = func(string) error {
		cancel()
		return broken
	}
	w, err := bucket.New(d.bucket(), nil).Create(ctx, "a")
	require.NoError(t, err)
	_, err = w.Commit()
	require.ErrorIs(t, err, context.Canceled)
	requireNoAnswer(t, err)
	assert.Equal(t, []string{"PUT a"}, d.log, "nobody waits for an answer any more")
}

func TestBucketRepeatsConflictingWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, left := &scripted{}, 2
		d.upload = func(string) error {
			if left--; left >= 0 {
				return s3Error("ConditionalRequestConflict")
			}
			return nil
		}
		s := bucket.New(d.bucket(), nil)
		require.NoError(t, writeObject(s, "a", "data"))
		assert.Len(t, d.log, 3)
		assert.Equal(t, "data", string(d.objects["a"]))

		left = 1 << 30
		start := time.Now()
		requireNoAnswer(t, writeObject(s, "b", "data"))
		assert.Less(t, time.Since(start), 10*time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), 75*time.Millisecond)
		defer cancel()
		w, err := s.Create(ctx, "c")
		require.NoError(t, err)
		_, err = w.Commit()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestBucketClosed(t *testing.T) {
	b := memblob.OpenBucket(nil)
	s := bucket.New(b, nil)
	require.NoError(t, writeObject(s, "a", ""))
	require.NoError(t, b.Close())
	requireNoAnswer(t, writeObject(s, "a", "")) // its code is that of a refused write
	_, err := s.Stat(t.Context(), "a")
	requireNoAnswer(t, err)
}

// Drivers say NotFound of much that is no answer about the object: it is one only when a listing confirms it.
func TestBucketNotFoundIsConfirmed(t *testing.T) {
	outage := func(string) error { return notFound("no such host") }
	ask := func(s repo.Store) map[string]error {
		_, stat := s.Stat(t.Context(), "a")
		_, open := s.Open(t.Context(), "a", 0, -1)
		_, part := s.Open(t.Context(), "a", 5, 5)
		_, none := s.Open(t.Context(), "a", 0, 0)
		return map[string]error{"stat": stat, "open": open, "open part": part, "open none": none}
	}
	set := func(d *scripted, f func(string) error) {
		d.attributes, d.remove = f, f
		d.read = func(name string, _, _ int64) error { return f(name) }
	}
	t.Run("an outage is not an answer", func(t *testing.T) {
		d := &scripted{list: outage}
		set(d, outage)
		s := bucket.New(d.bucket(), nil)
		for op, err := range ask(s) {
			require.ErrorContains(t, err, "no such host", op)
			requireNoAnswer(t, err)
		}
		requireNoAnswer(t, s.Delete(t.Context(), "a"))
		for _, err := range s.List(t.Context(), "") {
			requireNoAnswer(t, err)
		}
	})
	t.Run("an object that is listed is not missing", func(t *testing.T) {
		d := &scripted{objects: map[string][]byte{"a": []byte("0123456789")}}
		set(d, outage)
		for _, err := range ask(bucket.New(d.bucket(), nil)) {
			requireNoAnswer(t, err)
		}
	})
	t.Run("an object may appear meanwhile", func(t *testing.T) {
		d := &scripted{}
		d.list = func(string) error {
			d.objects = map[string][]byte{"a": []byte("0123456789")}
			return nil
		}
		_, err := bucket.New(d.bucket(), nil).Open(t.Context(), "a", 0, -1)
		require.NoError(t, err)
	})
	t.Run("others may be listed", func(t *testing.T) {
		d := &scripted{objects: map[string][]byte{"a/b": nil, "aa": nil}}
		s := bucket.New(d.bucket(), nil)
		for _, err := range ask(s) {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorIs(t, err, gcerrors.ErrNotFound, "the driver's error is inside")
		}
		require.NoError(t, s.Delete(t.Context(), "a"))
	})
	t.Run("S3's word needs no confirmation", func(t *testing.T) {
		d := &scripted{}
		set(d, func(string) error { return coded{s3Error("NoSuchKey"), gcerrors.NotFound} })
		_, err := bucket.New(d.bucket(), nil).Open(t.Context(), "a", 0, -1)
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.Equal(t, []string{"GET a"}, d.log)
	})
	t.Run("a file that the driver misses is not the object", func(t *testing.T) {
		d := &scripted{}
		set(d, func(string) error { return &fs.PathError{Op: "open", Path: "/run/token", Err: fs.ErrNotExist} })
		d.list = d.attributes
		d.upload = d.attributes
		s := bucket.New(d.bucket(), nil)
		errs := ask(s)
		errs["delete"] = s.Delete(t.Context(), "a")
		errs["write"] = writeObject(s, "a", "")
		for _, err := range s.List(t.Context(), "") {
			errs["list"] = err
		}
		for op, err := range errs {
			requireNoAnswer(t, err)
			var pathErr *fs.PathError
			require.ErrorAs(t, err, &pathErr, op)
			assert.Equal(t, "/run/token", pathErr.Path)
		}
	})
}

func TestBucketBodyThatBreaksOff(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	broken := errors.New("connection reset by peer")
	// after returns a hook that cuts every body after n bytes.
	after := func(n int64, err error) func(int64, io.Reader) io.Reader {
		return func(_ int64, r io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(r, n), iotest.ErrReader(err))
		}
	}
	tests := []struct {
		name   string
		script func(d *scripted)
		off, n int64
		want   error // nil when the body is read whole
		gets   int
	}{
		{"whole", func(*scripted) {}, 0, -1, nil, 1},
		{"broken twice", func(d *scripted) { d.body = after(400, broken) }, 0, -1, nil, 3},
		{"broken twice in a range", func(d *scripted) { d.body = after(300, broken) }, 50, 700, nil, 3},
		{"ended early", func(d *scripted) { d.body = after(400, io.EOF) }, 0, -1, nil, 3},
		{"broken before the first byte", func(d *scripted) { d.body = after(0, broken) }, 0, -1, broken, 5},
		{"broken too often", func(d *scripted) { d.body = after(100, broken) }, 0, -1, broken, 5},
		{"ended early too often", func(d *scripted) { d.body = after(100, io.EOF) }, 0, -1, io.ErrUnexpectedEOF, 5},
		{"broken after the last byte", func(d *scripted) { d.body = after(1000, broken) }, 0, -1, nil, 1},
		{"another size meanwhile", func(d *scripted) {
			d.body = after(100, broken)
			d.read = func(_ string, off, _ int64) error {
				if off > 0 {
					d.objects["a"] = append(data, "more"...)
				}
				return nil
			}
		}, 0, -1, broken, 2},
		{"gone meanwhile", func(d *scripted) {
			d.body = after(100, broken)
			d.read = func(_ string, off, _ int64) error {
				if off > 0 {
					delete(d.objects, "a")
				}
				return nil
			}
		}, 0, -1, broken, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &scripted{objects: map[string][]byte{"a": data}}
			tt.script(d)
			body, err := bucket.New(d.bucket(), nil).Open(t.Context(), "a", tt.off, tt.n)
			require.NoError(t, err)
			defer body.Close()
			got, err := io.ReadAll(body)
			end := int64(len(data))
			if tt.n >= 0 {
				end = tt.off + tt.n
			}
			if tt.want == nil {
				require.NoError(t, err)
				assert.Equal(t, data[tt.off:end], got)
			} else {
				require.ErrorIs(t, err, tt.want)
				requireNoAnswer(t, err)
				assert.True(t, bytes.HasPrefix(data[tt.off:end], got))
				_, again := body.Read(make([]byte, 1))
				assert.Equal(t, err, again)
			}
			assert.Len(t, d.log, tt.gets)
			require.NoError(t, body.Close())
		})
	}
}

func TestBucketListing(t *testing.T) {
	d := &scripted{objects: map[string][]byte{"a/": nil, "a/1": nil, "a/2": nil, "a//3": nil, "a/../4": nil, "b": nil}}
	s := bucket.New(d.bucket(), nil)
	var keys []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	assert.Equal(t, []string{"a/1", "a/2", "b"}, keys, "what cannot be an object of ours is passed over")

	d.listing = func(names []string) []string {
		slices.Reverse(names)
		return names
	}
	n := 0
	for _, err := range s.List(t.Context(), "") {
		if n++; n == 2 {
			requireNoAnswer(t, err)
		}
	}
	assert.Equal(t, 2, n, "the first key, then an error")
}

func TestBucketListingThatBreaksOff(t *testing.T) {
	d := &scripted{objects: map[string][]byte{"a": nil, "b": nil}}
	left := 4
	d.list = func(string) error {
		if left--; left >= 0 {
			return fmt.Errorf("deserialization failed: %w", io.ErrUnexpectedEOF)
		}
		return nil
	}
	s := bucket.New(d.bucket(), nil)
	var keys []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	assert.Equal(t, []string{"a", "b"}, keys)
	assert.Len(t, d.log, 5)

	left = 5
	for _, err := range s.List(t.Context(), "") {
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		requireNoAnswer(t, err)
	}
	assert.Len(t, d.log, 10)
}

func writeObject(s repo.Store, key, data string) error {
	w, err := s.Create(context.Background(), key)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(w, data); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

func requireNoAnswer(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fs.ErrExist)
}
