package main

import (
	"context"
	"fmt"
	"strings"
)

// async makes pgbackrest archive beside the calls, with the processes that its configuration gives it.
const async = "--archive-async"

// backlogs clears a backlog: a data directory whose segments are all marked as ready, for each of which PostgreSQL calls
// archive_command, one after the other. The first call of ours archives them all.
func (b *bench) backlogs(ctx context.Context) error {
	if err := b.makeBacklog(ctx); err != nil {
		return err
	}
	cs := contenders(
		func(repo string) *contender {
			return &contender{
				prepare: func(int) error { return b.forget(ctx, repo) },
				command: func(int) []string { return b.archiver(b.cairn, b.ours(repo, "wal", "push", b.ready())...) },
				check: func() error {
					return b.checkArchived(ctx, b.cairn, b.ours(repo, "wal", "fetch", "$f", b.path("checked", "$f"))...)
				},
			}
		},
		func(repo string) *contender {
			return &contender{
				prepare: func(int) error { return b.forget(ctx, repo) },
				command: func(int) []string {
					return b.archiver("pgbackrest", b.fromBacklog(repo, async, "archive-push", b.ready())...)
				},
				check: func() error {
					return b.checkArchived(ctx, "pgbackrest", b.fromBacklog(repo, "archive-get", "$f", b.path("checked", "$f"))...)
				},
				after: awaitOrphans,
			}
		},
	)
	for _, c := range cs[2:] {
		c.name += ", async"
	}
	copied := &contender{
		name:    "cp",
		prepare: func(int) error { return b.forget(ctx, "") },
		command: func(int) []string { return b.archiver("cp", b.ready(), b.path("checked", "$f")) },
		check:   func() error { return b.requireSame(ctx, b.path("checked")) },
	}
	return b.race(ctx, fmt.Sprintf("%d ready segments cleared", b.backlog), b.runs, append([]*contender{copied}, cs...)...)
}

// makeBacklog makes a scratch data directory with segments that are to be archived.
func (b *bench) makeBacklog(ctx context.Context) error {
	return b.shell(ctx, `
		rm -rf %[1]s && mkdir -p %[1]s/global %[1]s/pg_wal/archive_status
		cp %[2]s/PG_VERSION %[1]s/ && cp %[2]s/global/pg_control %[1]s/global/
		cd %[2]s/pg_wal && cp %[3]s %[1]s/pg_wal/`,
		b.path("backlog"), b.path("data"), strings.Join(b.names[:b.backlog], " "))
}

// ready is the path of a segment of the backlog, in a command of each.
func (b *bench) ready() string { return b.path("backlog", "pg_wal", "$f") }

// fromBacklog is a command of pgbackrest for the scratch data directory.
func (b *bench) fromBacklog(repo string, args ...string) []string {
	return b.theirs(repo, append([]string{"--pg1-path=" + b.path("backlog")}, args...)...)
}

// archiver does what PostgreSQL's archiver does.
func (b *bench) archiver(name string, args ...string) []string {
	status := b.path("backlog", "pg_wal", "archive_status", "$f")
	return b.each(name+" "+strings.Join(args, " "), fmt.Sprintf("mv %[1]s.ready %[1]s.done", status))
}

// forget makes a repository of each tool hold no segments, and all of the backlog ready.
func (b *bench) forget(ctx context.Context, repo string) error {
	return b.shell(ctx, `
		rm -rf %[1]s/archive_status %[2]s && mkdir %[1]s/archive_status %[2]s
		for f in %[3]s; do : > %[1]s/archive_status/$f.ready; done
		[ -z "%[4]s" ] || rm -rf %[5]s/%[4]s/wal %[5]s/%[4]s/indexes %[5]s/state/*/wal-* %[5]s/pgbackrest/%[4]s/spool \
			%[5]s/pgbackrest/%[4]s/repo/archive/bench/*/0*`,
		b.path("backlog", "pg_wal"), b.path("checked"), strings.Join(b.names[:b.backlog], " "), repo, b.dir)
}

// checkArchived fetches all segments with a command, and compares them.
func (b *bench) checkArchived(ctx context.Context, name string, args ...string) error {
	command := b.each(name + " " + strings.Join(args, " "))
	if _, err := b.do(ctx, command[0], command[1:]...); err != nil {
		return err
	}
	return b.requireSame(ctx, b.path("checked"))
}
