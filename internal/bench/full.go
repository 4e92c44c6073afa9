package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

// backups takes full backups by both tools with the codec that most use.
func (b *bench) backups(ctx context.Context) error {
	if err := b.fulls(ctx, "full backup, zstd -1, 2 jobs", nil, nil); err != nil {
		return err
	}
	cluster := size(b.path("data")) - size(b.path("data", "pg_wal"))
	fmt.Printf("  %-32s %10.1f\n", "the cluster", float64(cluster)/1e6)
	return nil
}

// fast takes them with the codecs that cost next to nothing.
func (b *bench) fast(ctx context.Context) error {
	return b.fulls(ctx, "full backup, s2 and lz4, 2 jobs", []string{"--compression", "s2"}, []string{"--compress-type=lz4"})
}

// fulls takes full backups, and prints what they take besides time.
func (b *bench) fulls(ctx context.Context, what string, ours, theirs []string) error {
	err := b.race(ctx, what, b.runs, contenders(
		func(repo string) *contender {
			return &contender{
				prepare: func(int) error { // as pgbackrest does, which keeps one full
					return remove(b.path(repo, "backups"), b.path(repo, "packs"))
				},
				command: func(int) []string { return b.ourBackup(repo, "full", ours...) },
			}
		},
		func(repo string) *contender {
			return &contender{command: func(int) []string { return b.theirBackup(repo, "full", theirs...) }}
		},
	)...)
	if err != nil {
		return err
	}
	peer := size(b.path("pgbackrest", "plain", "repo", "backup"))
	fmt.Printf("\n%-34s %10s %8s\n", "stored", "MB", "ratio")
	for _, repo := range repos {
		n := size(b.path(repo, "packs")) + size(b.path(repo, "backups"))
		fmt.Printf("  %-32s %10.1f %8.3f\n", "pgcairn, "+repo, float64(n)/1e6, float64(n)/float64(peer))
	}
	fmt.Printf("  %-32s %10.1f %8.3f\n", "pgbackrest", float64(peer)/1e6, 1.0)
	return nil
}

// ourBackup is the command of a backup of ours from the data directory.
func (b *bench) ourBackup(repo, kind string, args ...string) []string {
	args = append([]string{"backup", "--pgdata", b.path("data"), "--jobs", "2", "--type", kind}, args...)
	return append([]string{b.cairn}, b.ours(repo, args...)...)
}

// theirBackup is the command of a backup by pgbackrest.
func (b *bench) theirBackup(repo, kind string, args ...string) []string {
	return append([]string{"pgbackrest"}, b.theirs(repo, slices.Concat([]string{"--type=" + kind}, args, []string{"backup"})...)...)
}

// newFulls has both tools begin anew with a full backup in each repository, to build on.
func (b *bench) newFulls(ctx context.Context) error {
	for _, repo := range repos {
		if err := remove(b.path(repo, "backups"), b.path(repo, "packs")); err != nil {
			return err
		}
		for _, command := range [][]string{b.ourBackup(repo, "full"), b.theirBackup(repo, "full")} {
			if _, err := b.do(ctx, command[0], command[1:]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// archiveNew pushes the segments that the server has completed, from the one in which the newest backup began on, to
// our repositories: as archive_command would have before a backup begins.
func (b *bench) archiveNew(ctx context.Context) error {
	last, err := b.query(ctx, "select pg_walfile_name(pg_switch_wal())")
	if err != nil {
		return err
	}
	files, err := filepath.Glob(b.path("data", "pg_wal", "0*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Base(f)
		if len(name) != 24 || name <= b.archived || name > last {
			continue
		}
		for _, repo := range repos {
			if _, err := b.do(ctx, b.cairn, b.ours(repo, "wal", "push", f)...); err != nil {
				return err
			}
		}
	}
	b.archived = last
	return nil
}
