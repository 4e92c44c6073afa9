package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// incrementals takes incremental backups after a few thousand changed rows that are spread over all of a database: of the
// cluster as it is, and when it is four times as large and changes as much as before.
func (b *bench) incrementals(ctx context.Context) error {
	for _, times := range []int{1, 4} {
		if err := b.grow(ctx, times); err != nil {
			return err
		}
		if err := b.incremental(ctx, times); err != nil {
			return err
		}
	}
	return nil
}

// grow adds databases like the first, until the cluster is so many times as large.
func (b *bench) grow(ctx context.Context, times int) error {
	for i := 2; i <= times; i++ {
		name := "more" + strconv.Itoa(i)
		if _, err := b.do(ctx, "psql", "-q", "-c", "create database "+name); err != nil {
			return err
		}
		if _, err := b.do(ctx, "psql", "-q", "-v", "rows="+strconv.Itoa(b.rows), "-f", b.path("realistic.sql"), "-c", "checkpoint", name); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) incremental(ctx context.Context, times int) error {
	if err := b.beginDifference(ctx); err != nil {
		return err
	}
	var floors []changedPages
	cs := contenders(
		func(repo string) *contender {
			return &contender{command: func(int) []string { return b.ourBackup(repo, "incr", "--json") }}
		},
		func(repo string) *contender {
			return &contender{command: func(int) []string { return b.theirBackup(repo, "incr") }}
		},
	)
	cs[0].prepare = func(i int) error { // for all of them
		floor, err := b.scatter(ctx)
		if i > 0 {
			floors = append(floors, floor)
		}
		return err
	}
	if err := b.race(ctx, fmt.Sprintf("incremental, %d times the cluster", times), b.runs, cs...); err != nil {
		return err
	}
	fmt.Printf("\n%-34s %10s %10s\n", "of the cluster", "MB read", "MB stored")
	row := func(name string, read, stored int64) {
		fmt.Printf("  %-32s %10.2f %10.2f\n", name, float64(read)/1e6, float64(stored)/1e6)
	}
	for i, repo := range repos {
		read, stored, err := ourIncrementals(cs[i])
		if err != nil {
			return err
		}
		row(cs[i].name, read, stored)
		read, stored, err = b.theirIncrementals(ctx, repo)
		if err != nil {
			return err
		}
		row("pgbackrest, "+repo, read, stored)
	}
	raw := middle(floors, func(p changedPages) int64 { return p.raw })
	row("the pages that have changed", raw, middle(floors, func(p changedPages) int64 { return p.runs }))
	row("the same, by the MiB", raw, middle(floors, func(p changedPages) int64 { return p.together }))
	return printMethods(cs[:2])
}

// scatter changes rows all over the first database, and returns which pages that has changed.
func (b *bench) scatter(ctx context.Context) (changedPages, error) {
	text, err := b.query(ctx, "select pg_current_wal_insert_lsn() - '0/0'")
	if err != nil {
		return changedPages{}, err
	}
	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return changedPages{}, err
	}
	if _, err := b.do(ctx, "psql", "-q", "-v", "rows="+strconv.Itoa(b.rows), "-f", b.path("scattered.sql")); err != nil {
		return changedPages{}, err
	}
	if err := b.archiveNew(ctx); err != nil {
		return changedPages{}, err
	}
	return b.pagesSince(since)
}

// summary is what matters here of what "backup --json" prints.
type summary struct {
	Type   string `json:"type"`
	Method string `json:"method"`
	Reason string `json:"reason"`
	Read   int64  `json:"read_bytes"`
	Stored int64  `json:"stored_bytes"`
}

func summaries(c *contender) (all []summary, err error) {
	for _, r := range c.results {
		var s summary
		if err := json.Unmarshal([]byte(r.out), &s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// ourIncrementals are the medians of bytes that our backups have read and stored.
func ourIncrementals(c *contender) (read, stored int64, err error) {
	all, err := summaries(c)
	if err != nil {
		return 0, 0, err
	}
	return middle(all, func(s summary) int64 { return s.Read }), middle(all, func(s summary) int64 { return s.Stored }), nil
}

// theirIncrementals are those of the newest backups in a repository of pgbackrest, which reads files as wholes.
func (b *bench) theirIncrementals(ctx context.Context, repo string) (read, stored int64, err error) {
	r, err := b.do(ctx, "pgbackrest", b.theirs(repo, "--output=json", "info")...)
	if err != nil {
		return 0, 0, err
	}
	type backup struct {
		Info struct {
			Delta      int64
			Repository struct{ Delta int64 }
		}
	}
	var stanzas []struct{ Backup []backup }
	if err := json.Unmarshal([]byte(r.out), &stanzas); err != nil {
		return 0, 0, err
	}
	if len(stanzas) != 1 || len(stanzas[0].Backup) < b.runs {
		return 0, 0, fmt.Errorf("pgbackrest info: %w", errNoOutput)
	}
	newest := stanzas[0].Backup[len(stanzas[0].Backup)-b.runs:]
	return middle(newest, func(x backup) int64 { return x.Info.Delta }), middle(newest, func(x backup) int64 { return x.Info.Repository.Delta }), nil
}

// printMethods says how ours have found what has changed: by another way than meant, times mean something else.
func printMethods(cs []*contender) error {
	for _, c := range cs {
		all, err := summaries(c)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, s := range all {
			if text := strings.TrimSpace(s.Type + " " + s.Method + " " + s.Reason); !seen[text] {
				seen[text] = true
				fmt.Printf("  %s: %s\n", c.name, text)
			}
		}
	}
	return nil
}

// middle is a median.
func middle[T any](all []T, of func(T) int64) int64 {
	var v []int64
	for _, x := range all {
		v = append(v, of(x))
	}
	slices.Sort(v)
	return v[len(v)/2]
}
