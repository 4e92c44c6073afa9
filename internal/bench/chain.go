package main

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// chain restores the last of five incremental backups on a full one: into memory, to disk, and over what is there already
// but for one page in a hundred. Recovery is to ask for the WAL in either case, so that files alone are brought.
func (b *bench) chain(ctx context.Context) error {
	if err := b.beginDifference(ctx); err != nil {
		return err
	}
	for range 5 {
		if _, err := b.scatter(ctx); err != nil {
			return err
		}
		for _, repo := range repos {
			for _, command := range [][]string{b.ourBackup(repo, "incr"), b.theirBackup(repo, "incr")} {
				if _, err := b.do(ctx, command[0], command[1:]...); err != nil {
					return err
				}
			}
		}
	}
	memory, err := os.MkdirTemp("/dev/shm", "pgcairn-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(memory) }()
	if b.as != nil {
		if err := os.Chown(memory, int(b.as.Uid), int(b.as.Gid)); err != nil {
			return err
		}
	}
	into := func(dir string, prepare func(dir string, i int) error, delta ...string) (ours, theirs func(repo string) *contender) {
		ours = func(repo string) *contender {
			args := append([]string{"restore", dir, "--wal", "command"}, delta...)
			return &contender{
				prepare: func(i int) error { return prepare(dir, i) },
				command: func(int) []string { return append([]string{b.cairn}, b.ours(repo, args...)...) },
			}
		}
		theirs = func(repo string) *contender {
			args := append([]string{"--pg1-path=" + dir, "restore"}, delta...)
			return &contender{
				prepare: func(i int) error { return prepare(dir, i) },
				command: func(int) []string { return append([]string{"pgbackrest"}, b.theirs(repo, args...)...) },
			}
		}
		return ours, theirs
	}
	anew := func(dir string, _ int) error { return b.fresh(dir) }
	for _, place := range []struct{ what, dir string }{
		{"restore of full and 5 incr, memory", filepath.Join(memory, "data")}, {"restore of full and 5 incr, disk", b.path("restored")},
	} {
		ours, theirs := into(place.dir, anew)
		if err := b.race(ctx, place.what, b.runs, contenders(ours, theirs)...); err != nil {
			return err
		}
	}
	for _, change := range []struct {
		what  string
		pages int64
	}{{"delta, 1 % of pages changed, disk", 1}, {"delta, 1 % of stretches of 1 MiB changed", 128}} {
		spoil := func(dir string, seed int) error { return spoil(dir, seed, change.pages) }
		ours, theirs := into(b.path("restored"), spoil, "--delta")
		if err := b.race(ctx, change.what, b.runs, contenders(ours, theirs)...); err != nil {
			return err
		}
	}
	return nil
}

// spoil changes one in a hundred of the stretches of some pages that the relations in a directory have, all of its pages.
func spoil(dir string, seed int, pages int64) error {
	rng := rand.New(rand.NewPCG(uint64(seed), 1)) //nolint:gosec // a fixed seed
	return filepath.WalkDir(filepath.Join(dir, "base"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if c := e.Name()[0]; c < '0' || c > '9' {
			return nil
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		changed := false
		for at := int64(0); err == nil && at+8192 <= info.Size(); at += 8192 {
			if at/8192%pages == 0 {
				changed = rng.IntN(100) == 0
			}
			if changed {
				_, err = f.WriteAt([]byte(strconv.FormatUint(rng.Uint64(), 36)), at+4096)
			}
		}
		return errors.Join(err, f.Close())
	})
}
