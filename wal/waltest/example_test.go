package waltest_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

func ExampleSegment() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		panic(err)
	}
	archive, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}

	// An archive that lacks the third of four segments.
	s := wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}
	for _, number := range []uint64{1, 2, 4} {
		s.Number = number
		name, err := wal.ParseName(s.Name())
		if err != nil {
			panic(err)
		}
		content := waltest.Segment(s, 4711, 18)
		if err := archive.PushContent(ctx, name, bytes.NewReader(content), int64(len(content))); err != nil {
			panic(err)
		}
	}

	held, err := archive.Coverage(ctx)
	if err != nil {
		panic(err)
	}
	for _, gap := range held.Timelines[0].Gaps() {
		fmt.Println("missing:", gap.First, "to", gap.Last)
	}
	// Output:
	// missing: 000000010000000000000003 to 000000010000000000000003
}

func ExampleHistory() {
	text := waltest.History(wal.Fork{Timeline: 1, At: 0x3000060})
	fmt.Printf("%q\n", text)
	h, err := wal.ParseHistory(2, text)
	fmt.Println(h.Forks[0].Timeline, h.Forks[0].At, err)
	// Output:
	// "1\t0/3000060\tno recovery target specified\n"
	// 1 0/3000060 <nil>
}

// WAL that changes a block, which an incremental backup would copy.
func ExampleLog() {
	s := wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}
	log := waltest.NewLog(s, 4711, 18)
	table := wal.File{Relation: wal.Relation{Tablespace: 1663, Database: 5, Number: 16384}}
	log.Append(waltest.FullPage(table, 7, make([]byte, 8192)))
	log.Append(waltest.RestorePoint("before the flood", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	log.Switch()

	index, err := wal.IndexSegment(s, bytes.NewReader(log.Segment(s)))
	if err != nil {
		panic(err)
	}
	changed, err := wal.Summarize(index)
	if err != nil {
		panic(err)
	}
	fmt.Println(changed.Blocks.Changed(table), changed.Events[0].Kind, changed.Events[0].Name)
	// Output:
	// [7] restore-point before the flood
}
