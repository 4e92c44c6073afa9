package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// exampleArchive returns an archive in memory that holds segments 1, 2 and 4 of a cluster.
func exampleArchive(ctx context.Context) (*wal.Archive, error) {
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		return nil, err
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return nil, err
	}
	for _, number := range []uint64{1, 2, 4} {
		s := wal.Segment{Timeline: 1, Number: number, Size: wal.MinSegmentSize}
		n, err := wal.ParseName(s.Name())
		if err != nil {
			return nil, err
		}
		content := waltest.Segment(s, 4711, 18)
		if err := a.PushContent(ctx, n, bytes.NewReader(content), int64(len(content))); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// An archive_command hands over %p, the path of a file in pg_wal.
func ExampleArchive_Push() {
	ctx := context.Background()
	pgdata, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(pgdata)
	segment := wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}
	path := filepath.Join(pgdata, segment.Name())
	if err := os.WriteFile(path, waltest.Segment(segment, 4711, 18), 0o600); err != nil {
		panic(err)
	}

	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		panic(err)
	}
	archive, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.Push(ctx, path))
	fmt.Println(archive.Push(ctx, path), "(the same content again)")

	changed := waltest.Segment(segment, 4711, 18)
	changed[5000]++
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		panic(err)
	}
	var conflict *wal.ConflictError
	fmt.Println(errors.As(archive.Push(ctx, path), &conflict), conflict.Name)
	// Output:
	// <nil>
	// <nil> (the same content again)
	// true 000000010000000000000001
}

func ExampleArchive_PushContent() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	history := waltest.History(wal.Fork{Timeline: 1, At: 0x200060})
	name, err := wal.ParseName("00000002.history")
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.PushContent(ctx, name, bytes.NewReader(history), int64(len(history))))
	// Output: <nil>
}

// A restore_command wants a file brought to a path, and must tell "it is not there" from every other failure.
func ExampleArchive_Fetch() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"000000010000000000000002", "000000010000000000000003"} {
		switch err := archive.Fetch(ctx, name, filepath.Join(dir, "RECOVERYXLOG")); {
		case err == nil:
			fmt.Println(name, "is there")
		case errors.Is(err, fs.ErrNotExist):
			fmt.Println(name, "is not in the archive")
		default:
			fmt.Println("nobody knows:", err)
		}
	}
	// Output:
	// 000000010000000000000002 is there
	// 000000010000000000000003 is not in the archive
}

func ExampleArchive_Read() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	err = archive.Read(ctx, "000000010000000000000001", &b)
	fmt.Println(b.Len(), err)
	// Output: 1048576 <nil>
}

func ExampleArchive_Has() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	name, err := wal.ParseName("000000010000000000000003")
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.Has(ctx, name))
	// Output: false <nil>
}

func ExampleArchive_Same() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	name, err := wal.ParseName("000000010000000000000003")
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.Same(ctx, name, strings.NewReader("a segment"), 9))
	// Output: false <nil>
}

func ExampleArchive_System() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	system, err := archive.System(ctx)
	fmt.Println(system.ID, system.SegmentSize, err)
	// Output: 4711 1048576 <nil>
}

func ExampleArchive_Claim() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.Claim(ctx, "this cluster", wal.System{ID: 4711, SegmentSize: wal.MinSegmentSize}))
	fmt.Println(archive.Claim(ctx, "that cluster", wal.System{ID: 4712, SegmentSize: wal.MinSegmentSize}))
	// Output:
	// <nil>
	// wal: that cluster is of system identifier 4712, but this repository belongs to system identifier 4711: use a repository of its own for each cluster; if the cluster was upgraded, take a backup that says so, from system identifier 4711
}

func ExampleArchive_Upgrade() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx) // of the cluster with system identifier 4711
	if err != nil {
		panic(err)
	}
	fmt.Println(archive.Upgrade(ctx, "the upgraded cluster", wal.System{ID: 4712, SegmentSize: wal.MinSegmentSize}, 4711))
	fmt.Println(archive.Claim(ctx, "the old server", wal.System{ID: 4711, SegmentSize: wal.MinSegmentSize}))
	// Output:
	// true <nil>
	// wal: the old server is of system identifier 4711, to which this repository belonged before it went over to system identifier 4712: does a server still run that was upgraded?
}

func ExampleArchive_Coverage() {
	ctx := context.Background()
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	held, err := archive.Coverage(ctx)
	if err != nil {
		panic(err)
	}
	for _, t := range held.Timelines {
		fmt.Printf("timeline %d: %d segments\n", t.Timeline, t.Segments)
		for _, r := range t.Ranges {
			fmt.Println("held:", r.First, "to", r.Last)
		}
		for _, g := range t.Gaps() {
			fmt.Println("missing:", g.First, "to", g.Last)
		}
	}
	last, ok := held.From(wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize})
	fmt.Println("recovery from the first one comes to", last.End(), ok)
	// Output:
	// timeline 1: 3 segments
	// held: 000000010000000000000001 to 000000010000000000000002
	// held: 000000010000000000000004 to 000000010000000000000004
	// missing: 000000010000000000000003 to 000000010000000000000003
	// recovery from the first one comes to 0/300000 true
}

func ExampleParseName() {
	for _, text := range []string{
		"0000000A00000016000000B3", "0000000A00000016000000B3.partial", "0000000A.history", "0000000A00000016000000B3.00000028.backup", "junk",
	} {
		name, err := wal.ParseName(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(name.Kind == wal.KindSegment, name.Timeline, name)
	}
	// Output:
	// true 10 0000000A00000016000000B3
	// false 10 0000000A00000016000000B3.partial
	// false 10 0000000A.history
	// false 10 0000000A00000016000000B3.00000028.backup
	// "junk" is not the name of a WAL file: want 24 upper-case hexadecimal digits
}

func ExampleParseLSN() {
	at, err := wal.ParseLSN("16/B374D848")
	fmt.Println(uint64(at), at, err)
	// Output: 97500059720 16/B374D848 <nil>
}

func ExampleParseSegment() {
	s, err := wal.ParseSegment("0000000A00000016000000B3", wal.DefaultSegmentSize)
	fmt.Println(s.Timeline, s.Number, s.Start(), s.End(), err)
	// Output: 10 5811 16/B3000000 16/B4000000 <nil>
}

func ExampleParseTimeline() {
	t, err := wal.ParseTimeline("0000000A")
	fmt.Println(t, t.HistoryName(), err)
	// Output: 10 0000000A.history <nil>
}

func ExampleSegmentAt() {
	s := wal.SegmentAt(10, 0x16_B374D848, wal.DefaultSegmentSize)
	fmt.Println(s.Prev())
	fmt.Println(s)
	fmt.Println(s.Next())
	fmt.Println(s.On(11))
	// Output:
	// 0000000A00000016000000B2
	// 0000000A00000016000000B3
	// 0000000A00000016000000B4
	// 0000000B00000016000000B3
}

func ExampleParseHistory() {
	h, err := wal.ParseHistory(3, []byte("1\t0/3000060\tno recovery target specified\n\n2\t0/5000148\tbefore 2026-01-01 00:00:00+00\n"))
	if err != nil {
		panic(err)
	}
	left, _ := h.Until(2)
	fmt.Println("timeline 2 was left at", left)
	fmt.Println("timeline", h.At(0x4000000), "holds 0/4000000")
	// Output:
	// timeline 2 was left at 0/5000148
	// timeline 2 holds 0/4000000
}

func ExampleReadHeader() {
	s := wal.Segment{Timeline: 1, Number: 3, Size: wal.MinSegmentSize}
	h, err := wal.ReadHeader(bytes.NewReader(waltest.Segment(s, 4711, 17)))
	fmt.Println(h.Major(), h.Timeline, h.Start, h.SystemID, h.SegmentSize, err)
	// Output: 17 1 0/300000 4711 1048576 <nil>
}

// What does an archive hold, object by object, and is it all as it was pushed?
func ExampleParseStored() {
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
	content := waltest.Segment(s, 7000000000000000001, 18)
	n, err := wal.ParseName(s.Name())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := a.PushContent(ctx, n, bytes.NewReader(content), int64(len(content))); err != nil {
		fmt.Println(err)
		return
	}
	systems, err := a.Systems(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	var all []wal.Stored
	for info, err := range r.Store().List(ctx, "wal/") {
		if err != nil {
			fmt.Println(err)
			return
		}
		o, err := wal.ParseStored(info, systems)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(o.Kind, o.Segment, a.CheckStored(ctx, o))
		all = append(all, o)
	}
	fmt.Println(wal.CoverageOf(systems[0], all, nil).Holds(s))
	// Output:
	// segment 000000010000000000000007 <nil>
	// true
}
