package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

var update = flag.Bool("update", false, "write the golden files anew; FORMAT.md has to follow")

// goldenDir holds two repositories as they were once written, which FORMAT.md shows. The identity of the encrypted one
// is testIdentity.
const goldenDir = "testdata/golden"

// What is in both, or in the plain one only.
const (
	goldenStream = "notes/first"
	goldenLabel  = "a label"
	goldenPack   = "packs/20261121T101530Z-9f3c2a/00000001"
	goldenRaw    = "packs/20261121T101530Z-9f3c2a/00000002" // of compression none
	goldenS2     = "packs/20261121T101530Z-9f3c2a/00000003"
	goldenNoted  = "packs/20261121T101530Z-9f3c2a/00000004"
	goldenNotes  = "what is in it"
	goldenParts  = "packs/20261121T101530Z-9f3c2a/00000005" // with stretches
	goldenRecord = "systems/1"
	goldenLease  = "leases/backup/00000000000000000001"
)

var (
	goldenFrames = [][]byte{[]byte("a cairn marks "), []byte("the way back\n")}
	// A frame that shrinks, and one that does not.
	goldenS2Frames = [][]byte{[]byte(strings.Repeat("stone, ", 7) + "and one more\n"), []byte("the way back\n")}
	// Frames of two stretches and of one.
	goldenPartsFrames = [][]byte{append(bytes.Repeat([]byte("."), repo.StretchSize), "a cairn marks "...), []byte("the way back\n")}
)

type system struct {
	SystemID    string `json:"system_id"`
	SegmentSize uint32 `json:"segment_size"`
}

var goldenSystem = system{"7000000000000000001", 16 << 20}

// lease is what FORMAT.md says a lease holds.
type lease struct {
	Fence    uint64 `json:"fence"`
	Holder   string `json:"holder"`
	Hostname string `json:"hostname"`
	Process  struct {
		Host  string `json:"host"`
		PID   int    `json:"pid"`
		Start string `json:"start"`
	} `json:"process"`
	Expires  time.Time `json:"expires"`
	Released bool      `json:"released"`
}

// makeGolden writes a golden repository, the same each time as long as the code is.
func makeGolden(t *testing.T, encrypted bool) (s repo.Store, packs map[string]repo.Pack) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	s = repotest.Mem(nil)
	o := &repo.Options{Now: testNow}
	if encrypted {
		o.Cipher = writeOnly(t)
	}
	r, err := repo.Init(t.Context(), s, o)
	require.NoError(t, err)
	require.NoError(t, streamOf(t.Context(), r, goldenStream, goldenLabel, goldenFrames...))
	packs = map[string]repo.Pack{}
	packs[goldenPack], err = writePack(t.Context(), r, goldenPack, goldenFrames...)
	require.NoError(t, err)
	if !encrypted {
		packs[goldenRaw], err = writePackOf(t.Context(), r, goldenRaw, repo.Uncompressed, goldenFrames...)
		require.NoError(t, err)
		packs[goldenS2], err = writePackOf(t.Context(), r, goldenS2, repo.S2, goldenS2Frames...)
		require.NoError(t, err)
		packs[goldenNoted], err = writeNotedPack(t.Context(), r, goldenNoted, []byte(goldenNotes), goldenFrames...)
		require.NoError(t, err)
		packs[goldenParts], err = writeStretchedPack(t.Context(), r, goldenParts, nil, goldenPartsFrames...)
		require.NoError(t, err)
		require.NoError(t, r.CreateRecord(t.Context(), goldenRecord, goldenSystem))
		l := lease{Fence: 1, Holder: "HOLDER", Hostname: "db1", Expires: testTime.Add(2 * time.Minute)}
		l.Process.Host, l.Process.PID, l.Process.Start = "boot pid:[1]", 4711, "12345"
		require.NoError(t, r.CreateRecord(t.Context(), goldenLease, l))
	}
	return s, packs
}

func goldenName(encrypted bool) string {
	if encrypted {
		return "encrypted"
	}
	return "plain"
}

// golden returns the objects of a golden repository.
func golden(t *testing.T, encrypted bool) map[string][]byte {
	t.Helper()
	dir := filepath.Join(goldenDir, goldenName(encrypted))
	if *update {
		s, _ := makeGolden(t, encrypted)
		require.NoError(t, os.RemoveAll(dir))
		for _, key := range storedKeys(t, s, "") {
			path := filepath.Join(dir, filepath.FromSlash(key))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, storedBytes(t, s, key), 0o600))
		}
	}
	objects := map[string][]byte{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		objects[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	}))
	require.NotEmpty(t, objects)
	return objects
}

// What was written once can be read for ever.
func TestGoldenIsRead(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(goldenName(encrypted), func(t *testing.T) {
			objects := golden(t, encrypted)
			_, packs := makeGolden(t, encrypted)
			s := repotest.Mem(nil)
			for key, b := range objects {
				storeBytes(t, s, key, b)
			}
			read := map[string]bool{}
			var c repo.Cipher
			if encrypted {
				c = readOnlyCipher(t)
			}
			r, err := repo.Open(t.Context(), repo.Observe(s, func(op repo.Op) { read[op.Key] = op.Err == nil }), &repo.Options{Cipher: c, Now: testNow})
			require.NoError(t, err)
			assert.Equal(t, encrypted, r.Encrypted())

			label, content, err := get(t.Context(), r, goldenStream)
			require.NoError(t, err)
			assert.Equal(t, goldenLabel, label)
			assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(content))
			onlyLabel, err := r.Label(t.Context(), goldenStream)
			require.NoError(t, err)
			assert.Equal(t, goldenLabel, string(onlyLabel))
			for key, pack := range packs {
				frames, err := readPack(t.Context(), r, pack)
				require.NoError(t, err)
				want := goldenFrames
				switch key {
				case goldenS2:
					want = goldenS2Frames
				case goldenParts:
					want = goldenPartsFrames
				}
				assert.Equal(t, want, frames)
				stretches, err := r.Stretches(t.Context(), pack)
				require.NoError(t, err)
				if key == goldenParts {
					requireStretches(t, stretches, goldenPartsFrames)
				} else {
					assert.Nil(t, stretches)
				}
				notes, err := r.Notes(t.Context(), key)
				require.NoError(t, err)
				assert.Equal(t, map[string]string{goldenNoted: goldenNotes}[key], string(notes))
			}
			if !encrypted {
				var got system
				require.NoError(t, r.ReadRecord(t.Context(), goldenRecord, &got))
				assert.Equal(t, goldenSystem, got)
				err := r.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error { return nil })
				var held *repo.LeaseError
				require.ErrorAs(t, err, &held)
				assert.Equal(t, repo.LeaseError{Name: "backup", Host: "db1", PID: 4711, Expires: testTime.Add(2 * time.Minute)}, *held)
			}
			for key := range objects {
				assert.True(t, read[key], "nobody has read the golden file %s", key)
			}
		})
	}
}

// Today's code writes the same, so that a change of the format is noticed where it is made. What age writes depends on
// its use of random numbers, so the encrypted objects are compared as decrypted.
func TestGoldenIsWritten(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(goldenName(encrypted), func(t *testing.T) {
			objects := golden(t, encrypted)
			s, _ := makeGolden(t, encrypted)
			keys := func(m []string) (keys []string) {
				for _, key := range m {
					if filepath.Dir(key) != "keys" {
						keys = append(keys, key)
					}
				}
				return keys
			}
			require.Equal(t, keys(slices.Sorted(maps.Keys(objects))), keys(storedKeys(t, s, "")))
			for key, want := range objects {
				switch {
				case !encrypted || key == "pgcairn.json":
					assert.Equal(t, want, storedBytes(t, s, key), key)
				case filepath.Dir(key) != "keys":
					assert.Equal(t, decrypted(t, objects, key), decrypted(t, stored(t, s), key), key)
				}
			}
		})
	}
}

func stored(t *testing.T, s repo.Store) map[string][]byte {
	t.Helper()
	objects := map[string][]byte{}
	for _, key := range storedKeys(t, s, "") {
		objects[key] = storedBytes(t, s, key)
	}
	return objects
}

// decrypted decrypts an object of a repository the way FORMAT.md tells.
func decrypted(t *testing.T, objects map[string][]byte, key string) []byte {
	t.Helper()
	c, ok := readOnlyCipher(t).(*crypto.Age)
	require.True(t, ok)
	for k, wrapped := range objects {
		if filepath.Dir(k) != "keys" {
			continue
		}
		_, secret, err := c.OpenKey(wrapped)
		require.NoError(t, err)
		r, err := c.Decrypt(bytes.NewReader(objects[key]), secret)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		return b
	}
	t.Fatal("no key")
	return nil
}

// A lease has the members that FORMAT.md lists.
func TestLeaseMembers(t *testing.T) {
	g := newRig(t, false)
	require.NoError(t, g.w.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error {
		b := storedBytes(t, g.store, "leases/backup/00000000000000000001")
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var l struct {
			lease
			Sum string `json:"sum"`
		}
		require.NoError(t, d.Decode(&l))
		assert.EqualValues(t, 1, l.Fence)
		assert.NotEmpty(t, l.Holder)
		assert.Equal(t, os.Getpid(), l.Process.PID)
		assert.True(t, testTime.Add(2*time.Minute).Equal(l.Expires))
		return nil
	}))
}
