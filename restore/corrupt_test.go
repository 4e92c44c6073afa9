package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// doctored is a store in which some objects have other content.
type doctored struct {
	repo.Store
	content map[string][]byte
}

func (d doctored) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b, ok := d.content[key]
	if !ok {
		return d.Store.Open(ctx, key, off, n)
	}
	b = b[min(off, int64(len(b))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (d doctored) Stat(ctx context.Context, key string) (repo.Info, error) {
	info, err := d.Store.Stat(ctx, key)
	if b, ok := d.content[key]; ok && err == nil {
		info.Size = int64(len(b))
	}
	return info, err
}

// content reads all objects of a store but leases.
func content(t *testing.T, s repo.Store) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, key := range keys(t, s, "") {
		if isLease(key) {
			continue
		}
		body, err := s.Open(t.Context(), key, 0, -1)
		require.NoError(t, err)
		b, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		all[key] = b
	}
	return all
}

// steps are the ways to read a repository, each of which goes further than the one before.
type step func(ctx context.Context, r *repo.Repo, f *fake, dir string) error

func load(ctx context.Context, r *repo.Repo, f *fake, _ string) error {
	if _, err := backup.List(ctx, r); err != nil {
		return err
	}
	_, err := backup.Load(ctx, r, f.m.ID)
	return err
}

func readAll(ctx context.Context, r *repo.Repo, f *fake, dir string) error {
	p, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	if err != nil {
		return err
	}
	for _, w := range p.Warnings {
		if !strings.HasPrefix(w, "what the WAL does cannot be told") { // which Run cannot bring either
			return errors.New(w)
		}
	}
	_, err = p.Run(ctx, r, dir, &restore.Options{Jobs: 1})
	return err
}

// kindOf names the kind of an object.
func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

// A flipped bit or a truncation of any object is noticed, the error names the object, and nothing comes of it.
func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypted), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, encrypted, nil)
			all := content(t, f.store)
			kinds := map[string]int{}
			dir := newDir(t)
			requireNoticed := func(key string, damaged []byte, through step, what string, args ...any) {
				t.Helper()
				at := fmt.Sprintf("%s: "+what, append([]any{key}, args...)...)
				require.NoError(t, os.RemoveAll(dir)) // or what an earlier try has brought is not read again
				r, err := f.open(t, doctored{f.store, map[string][]byte{key: damaged}})
				if err == nil {
					err = through(t.Context(), r, f, dir)
				}
				require.Error(t, err, at)
				require.NotErrorIs(t, err, repo.ErrNoRepository, at)
				if is[*repo.FormatError](err) {
					// The version is read before the checksum, which another version may have elsewhere.
					return
				}
				require.ErrorContains(t, err, key, at)
				requireNoAnswer(t, err)
				if kindOf(key) != "keys" {
					require.True(t, is[*repo.CorruptError](err), "%s: %v", at, err)
				}
				requireNoCluster(t, dir)
			}
			for _, key := range slices.Sorted(maps.Keys(all)) {
				b := all[key]
				kinds[kindOf(key)]++
				through, stride := step(load), 1
				switch kindOf(key) {
				case "packs", "wal":
					// These take a whole restore each.
					through, stride = readAll, max(1, len(b)/25)
				case "systems":
					through, stride = readAll, 5
				case "backups", "keys":
					if encrypted {
						stride = 5
					}
				}
				for i := 0; i < len(b); i += stride {
					requireNoticed(key, flipped(b, i), through, "bit %d of byte %d flipped", i%8, i)
				}
				requireNoticed(key, flipped(b, len(b)-1), through, "last byte flipped")
				for _, n := range []int{0, 1, len(b) / 2, len(b) - 17, len(b) - 1} {
					requireNoticed(key, b[:n], through, "truncated to %d bytes", n)
				}
				requireNoticed(key, append(slices.Clone(b), 0), through, "a byte longer")
			}
			want := map[string]int{"pgcairn.json": 1, "backups": 1, "packs": 1, "systems": 1, "wal": 2}
			if encrypted {
				want["keys"] = 1
			}
			require.Equal(t, want, kinds)
		})
	}
}

// flipped returns b with a bit flipped, another one in each byte.
func flipped(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 1 << (i % 8)
	return b
}

// An object that is put under another's name is noticed, although each byte of it was once written.
func TestSwappedObjects(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, nil)
		f.c.Write("base/5/30000", backuptest.Pages(0, 5, 1, "another table"))
		first := f.m
		var err error
		f.m, err = backup.Take(t.Context(), f.repo, f.c, &backup.Options{Jobs: 1})
		require.NoError(t, err)
		all := content(t, f.store)
		dir := newDir(t)
		for _, kind := range []string{"backups/", "packs/", "wal/"} {
			keys := keys(t, f.store, kind)
			require.GreaterOrEqual(t, len(keys), 2)
			mine := slices.IndexFunc(keys, func(k string) bool { return strings.Contains(k, string(f.m.ID)) })
			mine = max(mine, len(keys)-1) // the newest WAL
			r, err := f.open(t, doctored{f.store, map[string][]byte{keys[mine]: all[keys[0]]}})
			require.NoError(t, err)
			p, err := restore.NewPlan([]*backup.Summary{&f.m.Summary}, f.coverage(t), restore.Latest(), nil)
			require.NoError(t, err)
			_, err = p.Run(t.Context(), r, dir, nil)
			require.True(t, is[*repo.CorruptError](err), "%s: %v", kind, err)
			require.ErrorContains(t, err, keys[mine])
			requireNoCluster(t, dir)
			if kind == "backups/" {
				// The others are listed all the same.
				some, err := backup.List(t.Context(), r)
				require.True(t, is[*repo.CorruptError](err))
				require.Len(t, some, 1)
				require.Equal(t, first.ID, some[0].ID)
				plan, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
				require.NoError(t, err)
				require.Equal(t, first.ID, plan.Backup.ID)
				require.Contains(t, strings.Join(plan.Warnings, "\n"), keys[mine])
			}
		}
		require.NoError(t, f.recover(t.Context(), f.store, dir))
		require.NoError(t, f.c.Compare(dir))
	}
}

// Where nothing but corrupt backups is left, that is the answer, and not that there are none.
func TestAllBackupsAreCorrupt(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	key := "backups/" + string(f.m.ID)
	r, err := f.open(t, doctored{f.store, map[string][]byte{key: []byte("nothing")}})
	require.NoError(t, err)
	_, err = restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.True(t, is[*restore.UnreachableError](err))
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, key, corrupt.Key)
}
