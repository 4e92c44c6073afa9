package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// repos are the repositories that each tool has.
var repos = []string{"plain", "encrypted"}

// contenders are both tools on both repositories, the one that ratios are to at the end.
func contenders(ours, theirs func(repo string) *contender) []*contender {
	cs := []*contender{ours("plain"), ours("encrypted"), theirs("encrypted"), theirs("plain")}
	for i, name := range []string{"pgcairn, plain", "pgcairn, encrypted", "pgbackrest, encrypted", "pgbackrest, plain"} {
		cs[i].name = name
	}
	return cs
}

// initRepos makes the repositories.
func (b *bench) initRepos(ctx context.Context) error {
	r, err := b.do(ctx, b.cairn, "key", "generate")
	if err != nil {
		return err
	}
	for line := range strings.Lines(r.out) {
		if i := strings.Index(line, "age1"); i >= 0 {
			b.recipient = strings.TrimSpace(line[i:])
		}
	}
	if b.recipient == "" {
		return fmt.Errorf("key generate: %w", errNoOutput)
	}
	b.identity = b.path("identity")
	if err := os.WriteFile(b.identity, []byte(r.out), 0o644); err != nil { //nolint:gosec // of a benchmark
		return err
	}
	for _, repo := range repos {
		if _, err := b.do(ctx, b.cairn, b.ours(repo, "init")...); err != nil {
			return err
		}
		if _, err := b.do(ctx, "mkdir", "-p", b.path("pgbackrest", repo)); err != nil {
			return err
		}
		if _, err = b.do(ctx, "pgbackrest", b.theirs(repo, "stanza-create")...); err != nil {
			return err
		}
	}
	return nil
}

// ours are the arguments for a command of ours on one of the repositories.
func (b *bench) ours(repo string, args ...string) []string {
	all := append(slices.Clone(args), "--repo", b.path(repo), "--state-dir", b.path("state"))
	if repo == "encrypted" {
		all = append(all, "--recipient", b.recipient)
		if args[0] != "backup" && args[0] != "init" && (args[0] != "wal" || args[1] != "push") {
			all = append(all, "--identity", b.identity)
		}
	}
	return all
}

// theirs is a command of pgbackrest on one of its repositories.
func (b *bench) theirs(repo string, args ...string) []string {
	return append([]string{"--config=" + b.path("pgbackrest-"+repo+".conf"), "--stanza=bench"}, args...)
}

func (b *bench) restores(ctx context.Context) error {
	ours := func(repo string) *contender {
		return &contender{
			prepare: func(int) error { return b.fresh(b.path("restored")) },
			command: func(int) []string {
				return append([]string{b.cairn}, b.ours(repo, "restore", b.path("restored"))...)
			},
		}
	}
	theirs := func(repo string) *contender {
		return &contender{
			prepare: func(int) error { return b.fresh(b.path("restored")) },
			command: func(int) []string {
				return append([]string{"pgbackrest"}, b.theirs(repo, "--pg1-path="+b.path("restored"), "restore")...)
			},
		}
	}
	return b.race(ctx, "restore, 2 jobs", b.runs, contenders(ours, theirs)...)
}

// wal pushes and fetches single segments.
func (b *bench) wal(ctx context.Context) error {
	segment := func(i int) string { return b.path("data", "pg_wal", b.names[i]) }
	ourPush := func(repo string) *contender {
		return &contender{command: func(i int) []string {
			return append([]string{b.cairn}, b.ours(repo, "wal", "push", segment(i))...)
		}}
	}
	theirPush := func(repo string) *contender {
		return &contender{command: func(i int) []string {
			return append([]string{"pgbackrest"}, b.theirs(repo, "archive-push", segment(i))...)
		}}
	}
	if err := b.race(ctx, "wal push of one segment", b.segments, contenders(ourPush, theirPush)...); err != nil {
		return err
	}
	// PostgreSQL removes what is there before it asks for a segment.
	dst := b.path("pg_wal", "RECOVERYXLOG")
	gone := func(int) error { return remove(dst) }
	if err := b.fresh(b.path("pg_wal")); err != nil {
		return err
	}
	ourFetch := func(repo string) *contender {
		return &contender{prepare: gone, command: func(i int) []string {
			return append([]string{b.cairn}, b.ours(repo, "wal", "fetch", b.names[i], dst)...)
		}}
	}
	theirFetch := func(repo string) *contender {
		return &contender{prepare: gone, command: func(i int) []string {
			return append([]string{"pgbackrest"}, b.theirs(repo, "archive-get", b.names[i], dst)...)
		}}
	}
	return b.race(ctx, "wal fetch of one segment", b.segments, contenders(ourFetch, theirFetch)...)
}

// floors are what no tool can go below: reading the files, and compressing them with the stock program.
func (b *bench) floors(ctx context.Context) error {
	sh := func(script string) func(int) []string {
		return func(int) []string { return []string{"sh", "-c", script} }
	}
	tar := "tar -C " + b.path("data") + " --exclude=./pg_wal -cf - ."
	return b.race(ctx, "floors", b.runs,
		&contender{name: "tar, to nowhere", command: sh(tar + " | cat >/dev/null")},
		&contender{name: "tar, zstd -1 -T2, sync", command: sh(tar + " | zstd -q -1 -T2 -f -o " + b.path("tar.zst") + " && sync " + b.path("tar.zst"))},
	)
}

func remove(paths ...string) error {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}
