package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// realArchive returns an archive in memory that holds a segment of a real server, of which the first pages are written.
func realArchive(ctx context.Context) (*wal.Archive, wal.Coverage) {
	content, err := os.ReadFile("testdata/seed/records/pg18")
	check(err)
	h, err := wal.ReadHeader(bytes.NewReader(content))
	check(err)
	content = append(content, make([]byte, int(h.SegmentSize)-len(content))...)
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	check(err)
	a, err := wal.NewArchive(r, nil)
	check(err)
	n, err := wal.ParseName(wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize).Name())
	check(err)
	check(a.PushContent(ctx, n, bytes.NewReader(content), int64(len(content))))
	c, err := a.Coverage(ctx)
	check(err)
	return a, c
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// What a recovery to a restore point would replay, and what not.
func ExampleArchive_Replay() {
	ctx := context.Background()
	archive, coverage := realArchive(ctx)
	way, ok := coverage.Way(1)
	if !ok {
		fmt.Println("it is not known how the WAL came to this timeline")
		return
	}
	told, err := archive.Replay(ctx, coverage, way, way[0].First.Start(), wal.Until{Name: "before it all"})
	check(err)
	fmt.Println("it gets there:", told.Reached)
	fmt.Println("a commit after it:", told.Next != nil && told.Next.LSN >= told.To)

	told, err = archive.Replay(ctx, coverage, way, way[0].First.Start(), wal.Until{Name: "nowhere"})
	check(err)
	fmt.Println("it gets there:", told.Reached)
	// Output:
	// it gets there: true
	// a commit after it: true
	// it gets there: false
}

// A name may stand for several restore points.
func ExampleArchive_Matches() {
	ctx := context.Background()
	archive, coverage := realArchive(ctx)
	way, _ := coverage.Way(1)
	found, err := archive.Matches(ctx, coverage, way, wal.Until{Name: "before it all"})
	check(err)
	for _, e := range found {
		fmt.Println(e.Kind, e.Name)
	}
	// Output: restore-point before it all
}

// What was done from a position on.
func ExampleArchive_Following() {
	ctx := context.Background()
	archive, coverage := realArchive(ctx)
	way, _ := coverage.Way(1)
	commits, events, err := archive.Following(ctx, coverage, way, way[0].First.Start())
	check(err)
	fmt.Println(commits.Count > 0, len(events) > 0)
	// Output: true true
}
