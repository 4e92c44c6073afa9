package main

import (
	"context"
	"fmt"
	"strings"
)

// ahead is how many segments of 16 MiB both tools may fetch ahead.
const ahead = 16

// replays fetches segments in the order in which recovery asks for them, a process each.
func (b *bench) replays(ctx context.Context) error {
	if err := b.makeBacklog(ctx); err != nil {
		return err
	}
	dst := b.path("checked", "RECOVERYXLOG")
	prepare := func(repo string) func(int) error {
		return func(int) error {
			return b.shell(ctx, `rm -rf %[1]s/checked %[1]s/pgbackrest/%[2]s/spool %[1]s/state/*/wal-*/ahead && mkdir %[1]s/checked`, b.dir, repo)
		}
	}
	check := func() error { return b.requireSame(ctx, b.path("checked")) }
	fetcher := func(name, repo, program string, args ...string) *contender {
		c := &contender{
			name: name, prepare: prepare(repo), check: check,
			// PostgreSQL renames what it has got.
			command: func(int) []string {
				return b.each(program+" "+strings.Join(args, " "), fmt.Sprintf("mv %s %s", dst, b.path("checked", "$f")))
			},
		}
		if program == "pgbackrest" {
			c.after = awaitOrphans
		}
		return c
	}
	queue := fmt.Sprintf("--archive-get-queue-max=%dMB", ahead*16)
	prefetch := fmt.Sprintf("--prefetch=%d", ahead)
	var cs []*contender
	for _, repo := range repos {
		for program, args := range map[string][]string{
			b.cairn:      b.ours(repo, "wal", "push", b.ready()),
			"pgbackrest": b.fromBacklog(repo, "archive-push", b.ready()),
		} {
			command := b.each(program + " " + strings.Join(args, " "))
			if _, err := b.do(ctx, command[0], command[1:]...); err != nil {
				return err
			}
		}
		cs = append(cs, fetcher("pgcairn, "+repo, repo, b.cairn, b.ours(repo, "wal", "fetch", prefetch, "$f", dst)...))
	}
	socket := b.path("socket")
	served := fetcher("pgcairn, plain, served", "plain", b.cairn, "wal", "fetch", "--socket", socket, "$f", dst)
	served.prepare = func(i int) (err error) {
		if err = prepare("plain")(i); err == nil {
			served.after, err = b.serve(ctx, "plain", socket, prefetch)
		}
		return err
	}
	cs = append(cs, served,
		fetcher("pgcairn, plain, one by one", "plain", b.cairn, b.ours("plain", "wal", "fetch", "$f", dst)...),
		fetcher("cp", "plain", "cp", b.ready(), dst),
		fetcher("pgbackrest, encrypted, async", "encrypted", "pgbackrest", b.fromBacklog("encrypted", async, queue, "archive-get", "$f", dst)...),
		fetcher("pgbackrest, plain, async", "plain", "pgbackrest", b.fromBacklog("plain", async, queue, "archive-get", "$f", dst)...),
		fetcher("pgbackrest, encrypted", "encrypted", "pgbackrest", b.fromBacklog("encrypted", "archive-get", "$f", dst)...),
		fetcher("pgbackrest, plain", "plain", "pgbackrest", b.fromBacklog("plain", "archive-get", "$f", dst)...),
	)
	return b.race(ctx, fmt.Sprintf("%d segments fetched in order", b.backlog), b.runs, cs...)
}
