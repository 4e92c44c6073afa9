package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// The first pages of a segment; several segments that follow each other are read with io.MultiReader.
func ExampleRecords() {
	f, err := os.Open("testdata/seed/records/pg18")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	records, commits := 0, 0
	for r, err := range wal.Records(f, nil) {
		if err != nil {
			fmt.Println(err) // a *wal.RecordError where there is no valid record
			return
		}
		records++
		p, err := r.Payload()
		if err != nil {
			fmt.Println(err)
			return
		}
		switch p := p.(type) {
		case *wal.RestorePoint:
			fmt.Println(p.Name)
		case *wal.Transaction:
			if p.Outcome == wal.Committed {
				commits++
			}
		}
	}
	fmt.Println(records > 50, commits > 0)
	// Output:
	// before it all
	// true true
}

// What a cluster did in some segments that follow each other, here the first pages of one.
func ExampleSummarize() {
	f, err := os.Open("testdata/seed/records/pg18")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	header, err := wal.ReadHeader(f)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		fmt.Println(err)
		return
	}
	index, err := wal.IndexSegment(wal.SegmentAt(header.Timeline, header.Start, header.SegmentSize), f)
	if err != nil {
		fmt.Println(err)
		return
	}
	did, err := wal.Summarize(index) // with those of the segments after it
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(did.Commits.Count, "commits")
	for _, e := range did.Events {
		fmt.Println(e.Kind, e.Name, len(e.Relations))
	}
	changed := 0
	for f := range did.Blocks.Files() {
		changed += len(did.Blocks.Changed(f))
	}
	fmt.Println("blocks to copy:", changed > 0)
	// Output:
	// 7 commits
	// restore-point before it all 0
	// drop  1
	// truncate  1
	// drop  1
	// checkpoint  0
	// blocks to copy: true
}

// The index of an archived segment is read without the segment.
func ExampleArchive_Index() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	s := wal.Segment{Timeline: 1, Number: 7, Size: wal.MinSegmentSize}
	name, err := wal.ParseName(s.Name())
	if err != nil {
		fmt.Println(err)
		return
	}
	content := waltest.Segment(s, 4711, 18) // as pg_wal has it
	if err := a.PushContent(ctx, name, bytes.NewReader(content), int64(len(content))); err != nil {
		fmt.Println(err)
		return
	}
	index, err := a.Index(ctx, s)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(index.Segment, index.Commits.Count, "commits, read up to", index.End)
	// Output: 000000010000000000000007 0 commits, read up to 0/800000
}

// Where to recover to so that an accident has not happened: just before the commit that dropped something.
func ExampleArchive_Search() {
	ctx := context.Background()
	a, err := archiveOfDrops(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range a.Search(ctx, wal.Query{Kinds: []wal.EventKind{wal.EventDrop, wal.EventRestorePoint}}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Kind, e.Name, len(e.Relations), e.Prev < e.LSN)
	}
	// Output:
	// restore-point before it all 0 true
	// drop  1 true
	// drop  1 true
}

// archiveOfDrops holds a segment of a server that dropped two tables.
func archiveOfDrops(ctx context.Context) (*wal.Archive, error) {
	front, err := os.ReadFile("testdata/seed/records/pg18")
	if err != nil {
		return nil, err
	}
	header, err := wal.ReadHeader(bytes.NewReader(front))
	if err != nil {
		return nil, err
	}
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		return nil, err
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return nil, err
	}
	name, err := wal.ParseName(wal.SegmentAt(header.Timeline, header.Start, header.SegmentSize).Name())
	if err != nil {
		return nil, err
	}
	content := make([]byte, header.SegmentSize)
	copy(content, front)
	return a, a.PushContent(ctx, name, bytes.NewReader(content), int64(len(content)))
}
