package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// An exhibit is an object of some kind and all ways to read it, which return an error or the right thing.
type exhibit struct {
	name  string
	key   string
	every bool // whether to flip every bit of it, or one of every byte
	fresh bool // whether each read takes a Repo that knows nothing yet
	read  []reading
	// Reads that look at a part only and may miss what is wrong with another; but what they return must be right.
	glance []reading
}

type reading func(t *testing.T, r *repo.Repo) error

var errWrong = errors.New("something wrong was returned as if it were right")

// exhibits makes an object of every kind.
func exhibits(t *testing.T, g *rig) []exhibit {
	t.Helper()
	ctx, o := t.Context(), g.readOptions(t)
	all := []exhibit{
		{name: "marker", key: "pgcairn.json", every: true, read: []reading{
			func(t *testing.T, r *repo.Repo) error {
				r, err := repo.Open(t.Context(), r.Store(), o)
				if err == nil && (r.ID() != g.w.ID() || r.Encrypted() != g.encrypted) {
					return errWrong
				}
				return err
			},
			func(t *testing.T, r *repo.Repo) error {
				_, err := repo.Init(t.Context(), r.Store(), o)
				return err
			},
		}},
	}

	want := note{Text: "a cairn marks the way back", Count: 3}
	require.NoError(t, g.w.CreateRecord(ctx, "notes/record", want))
	all = append(all, exhibit{name: "record", key: "notes/record", every: true, read: []reading{
		func(t *testing.T, r *repo.Repo) error {
			var got note
			err := r.ReadRecord(t.Context(), "notes/record", &got)
			if err == nil && got != want || err != nil && got != (note{}) {
				return errWrong
			}
			return err
		},
	}})

	nothing := func(context.Context, *repo.Lease) error { return nil }
	require.NoError(t, g.w.WithLease(ctx, "backup", nothing))
	leases := storedKeys(t, g.store, "leases/")
	require.Len(t, leases, 1)
	all = append(all, exhibit{name: "lease", key: leases[0], every: true, read: []reading{
		func(t *testing.T, r *repo.Repo) error {
			// Taking it writes, so in a store of its own.
			s := repotest.Mem(nil)
			for _, key := range []string{"pgcairn.json", leases[0]} {
				storeBytes(t, s, key, storedBytes(t, r.Store(), key))
			}
			r, err := repo.Open(t.Context(), s, o)
			require.NoError(t, err)
			return r.WithLease(t.Context(), "backup", nothing)
		},
	}})

	for _, stream := range []struct {
		name   string
		frames [][]byte
		label  string
	}{
		{"empty stream", nil, ""},
		{"small stream", [][]byte{[]byte("a cairn marks the way back")}, "the label"},
		{"stream", [][]byte{noise(200, 1), pages(500), bytes.Repeat([]byte("the way back "), 2000)}, strings.Repeat("l", 32)},
	} {
		require.NoError(t, streamOf(ctx, g.w, stream.name, stream.label, stream.frames...))
		all = append(all, exhibit{name: stream.name, key: stream.name, every: len(stream.frames) == 1, read: []reading{
			func(t *testing.T, r *repo.Repo) error {
				label, content, err := get(t.Context(), r, stream.name)
				if err == nil && (label != stream.label || !bytes.Equal(content, bytes.Join(stream.frames, nil))) {
					return errWrong
				}
				return err
			},
		}, glance: []reading{
			func(t *testing.T, r *repo.Repo) error {
				label, err := r.Label(t.Context(), stream.name)
				if err == nil && string(label) != stream.label {
					return errWrong
				}
				return err
			},
		}})
	}

	type pack struct {
		name        string
		compression repo.Compression
		frames      [][]byte
	}
	packs := []pack{
		{name: "empty pack"},
		{name: "pack", frames: [][]byte{pages(500), noise(200, 3), make([]byte, 100_000)}},
	}
	for _, c := range []repo.Compression{repo.ZstdFastest, repo.S2, repo.Uncompressed} {
		small := [][]byte{[]byte("a cairn"), bytes.Repeat([]byte("marks the way back "), 3)}
		packs = append(packs, pack{"pack of " + string(c), c, small})
	}
	for _, pack := range packs {
		p, err := writePackOf(ctx, g.w, pack.name, pack.compression, pack.frames...)
		require.NoError(t, err)
		all = append(all, exhibit{name: pack.name, key: pack.name, every: len(pack.frames) == 2 && !g.encrypted, read: []reading{
			func(t *testing.T, r *repo.Repo) error {
				var wrong error
				err := r.ReadPack(t.Context(), p, func(i int, raw []byte) error {
					if !bytes.Equal(raw, pack.frames[i]) {
						wrong = errWrong // no frame is handed out that is wrong
					}
					return nil
				})
				if wrong != nil {
					return wrong
				}
				return err
			},
		}, glance: []reading{
			func(t *testing.T, r *repo.Repo) error {
				if g.encrypted {
					return nil // in TestPackReaderFindsDamage, of fewer bytes
				}
				got, err := readFrames(t.Context(), r, p)
				if err == nil && !slices.EqualFunc(got, pack.frames, bytes.Equal) {
					return errWrong
				}
				return err
			},
		}})
	}

	if g.encrypted {
		keys := storedKeys(t, g.store, "keys/")
		require.Len(t, keys, 1)
		// Package crypto flips every bit of these.
		all = append(all, exhibit{name: "key", key: keys[0], fresh: true, read: []reading{
			func(t *testing.T, r *repo.Repo) error {
				_, _, err := get(t.Context(), r, "small stream")
				return err
			},
		}})
	}
	return all
}

// requireDetected demands an error that names the object, and is not that of a missing one or of a store that fails.
func requireDetected(t *testing.T, err error, key, what string) {
	t.Helper()
	require.Error(t, err, what)
	require.NotErrorIs(t, err, errWrong, what)
	requireNoAnswerAtAll(t, err)
	require.NotErrorIs(t, err, repo.ErrNoRepository, what)
	var (
		corrupt *repo.CorruptError
		format  *repo.FormatError
		wrong   *crypto.IdentityError
	)
	switch {
	case errors.As(err, &corrupt):
		require.Equal(t, key, corrupt.Key, what)
	case errors.As(err, &format):
		require.Equal(t, "pgcairn.json", key, what)
		return
	case errors.As(err, &wrong): // a key whose stanzas nobody recognizes
		require.True(t, strings.HasPrefix(key, "keys/"), what)
	default:
		t.Fatalf("%s: %v", what, err)
	}
	require.ErrorContains(t, err, key, what)
}

// Whatever bit of whatever object is flipped, wherever it is cut off, and whatever is added: it is noticed, and named.
func TestEveryDamageIsDetected(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		all := exhibits(t, g)
		for i, e := range all {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				whole := storedBytes(t, g.store, e.key)
				s := &replaced{Store: g.store, key: e.key, data: whole}
				r := g.reader(t, s)
				check := func(what string, b []byte) {
					s.data = b
					if e.fresh {
						r = g.reader(t, s)
					}
					for _, read := range e.read {
						requireDetected(t, read(t, r), e.key, what)
					}
					for _, glance := range e.glance {
						if err := glance(t, r); err != nil {
							requireDetected(t, err, e.key, what)
						}
					}
				}
				for _, read := range append(e.read, e.glance...) {
					require.NoError(t, read(t, r), "when nothing is wrong")
				}
				for at := range whole {
					for bit := range 8 {
						if !e.every && bit != at%8 {
							continue
						}
						b := bytes.Clone(whole)
						b[at] ^= 1 << bit
						check(fmt.Sprintf("bit %d of byte %d flipped", bit, at), b)
					}
					check(fmt.Sprint("truncated to ", at), whole[:at])
				}
				for _, tail := range []string{"\x00", "\n", " ", string(whole), string(whole[len(whole)-16:]), "\x50\x2a\x4d\x18\x00\x00\x00\x00", strings.Repeat("\x00", 100_000)} {
					check(fmt.Sprintf("followed by %.20q", tail), append(bytes.Clone(whole), tail...))
				}
				for j, other := range all {
					if j != i {
						check("replaced by "+other.name, storedBytes(t, g.store, other.key))
					}
				}
				check("replaced by zeros", make([]byte, len(whole)))
			})
		}
	})
}

// Objects of the same kind that have changed places, each sound in itself.
func TestSwappedObjects(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		ctx := t.Context()
		for _, key := range []string{"a", "b"} {
			_, err := put(ctx, g.w, "stream "+key, "label of "+key, []byte("content of "+key))
			require.NoError(t, err)
		}
		p, err := writePack(ctx, g.w, "pack a", []byte("frame"))
		require.NoError(t, err)
		_, err = writePack(ctx, g.w, "pack b", []byte("frame")) // the very same frame
		require.NoError(t, err)

		swapped := g.reader(t, &replaced{g.store, "stream a", storedBytes(t, g.store, "stream b")})
		_, _, err = get(ctx, swapped, "stream a")
		requireCorrupt(t, err, "stream a")
		_, err = swapped.Label(ctx, "stream a")
		requireCorrupt(t, err, "stream a")
		_, err = swapped.OpenFront(ctx, "stream a", 1000)
		requireCorrupt(t, err, "stream a")
		_, err = readPack(ctx, g.reader(t, &replaced{g.store, "pack a", storedBytes(t, g.store, "pack b")}), p)
		requireCorrupt(t, err, "pack a")
	})
}

// An object that was put there encrypted is not taken for one that is not, nor the reverse.
func TestObjectOfTheOtherMode(t *testing.T) {
	plain, encrypted := newRig(t, false), newRig(t, true)
	for _, g := range []*rig{plain, encrypted} {
		_, err := put(t.Context(), g.w, "a", "label", []byte("content"))
		require.NoError(t, err)
	}
	for _, swap := range []struct{ g, other *rig }{{plain, encrypted}, {encrypted, plain}} {
		r := swap.g.reader(t, &replaced{swap.g.store, "a", storedBytes(t, swap.other.store, "a")})
		_, _, err := get(t.Context(), r, "a")
		requireCorrupt(t, err, "a")
		_, err = r.Label(t.Context(), "a")
		requireCorrupt(t, err, "a")
	}
}

// A lease whose damage would free it, or move it in time, holds as long as nobody has looked into it.
func TestDamagedLeaseIsNotTaken(t *testing.T) {
	g := newRig(t, false)
	err := g.w.WithLease(t.Context(), "backup", func(ctx context.Context, _ *repo.Lease) error {
		key := storedKeys(t, g.store, "leases/")[0]
		whole := string(storedBytes(t, g.store, key))
		for _, b := range []string{
			strings.Replace(whole, `"released":false`, `"released":true`, 1),
			strings.Replace(whole, testTime.Add(2*time.Minute).Format(time.RFC3339), testTime.Add(-2*time.Minute).Format(time.RFC3339), 1),
			"",
		} {
			require.NotEqual(t, whole, b)
			err := g.reader(t, &replaced{g.store, key, []byte(b)}).WithLease(ctx, "backup", func(context.Context, *repo.Lease) error {
				return errWrong
			})
			requireCorrupt(t, err, key)
		}
		return nil
	})
	require.NoError(t, err)
	for _, key := range []string{"leases/odd/1", "leases/odd/0000000000000000000x", "leases/odd/00000000000000000000"} {
		storeBytes(t, g.store, key, nil)
		requireCorrupt(t, g.r.WithLease(t.Context(), "odd", func(context.Context, *repo.Lease) error { return errWrong }), key)
		require.NoError(t, g.store.Delete(t.Context(), key))
	}
}
