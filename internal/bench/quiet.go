package main

import (
	"context"
	"fmt"
)

// quiet takes incremental backups of a cluster in which nothing has changed. What a server needs for any backup, a
// checkpoint and the switch to another segment, is beside them.
func (b *bench) quiet(ctx context.Context) error {
	if err := b.beginDifference(ctx); err != nil {
		return err
	}
	prepare := func(int) error { return b.archiveNew(ctx) }
	cs := contenders(
		func(repo string) *contender {
			return &contender{prepare: prepare, command: func(int) []string { return b.ourBackup(repo, "incr", "--json") }}
		},
		func(repo string) *contender {
			return &contender{prepare: prepare, command: func(int) []string { return b.theirBackup(repo, "incr") }}
		},
	)
	pair := &contender{name: "pg_backup_start, pg_backup_stop", prepare: prepare, command: func(int) []string {
		return []string{"psql", "-XAtq", "-c", "select pg_backup_start('bench', true)", "-c", "select lsn from pg_backup_stop(false)"}
	}}
	if err := b.race(ctx, "incremental of no change", b.runs, append(cs, pair)...); err != nil {
		return err
	}
	wall := func(r result) float64 { return r.wall.Seconds() }
	fmt.Printf("\n%-34s %10s\n", "beyond what the server needs", "wall")
	for _, c := range cs {
		fmt.Printf("  %-32s %8.3f s\n", c.name, c.median(wall)-pair.median(wall))
	}
	return printMethods(cs[:2])
}

// beginDifference has all repositories hold a full backup of the cluster as it is.
func (b *bench) beginDifference(ctx context.Context) (err error) {
	// From the segment on that the server is at.
	if b.archived, err = b.query(ctx, "select pg_walfile_name(pg_switch_wal())"); err != nil {
		return err
	}
	return b.newFulls(ctx)
}
