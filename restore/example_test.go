package restore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// exampleRepo is a repository in memory with a backup, taken at 2026-01-01 00:00:01, and some WAL. A program has
// repo.OpenDir or bucket.New, and a cluster with a server.
func exampleRepo() (*repo.Repo, *backuptest.Cluster) {
	ctx := context.Background()
	c := backuptest.New(nil)
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	check(err)
	_, err = backup.Take(ctx, r, c, nil)
	check(err)
	c.Switch(2)
	a, err := wal.NewArchive(r, nil)
	check(err)
	check(c.Archive(ctx, a))
	return r, c
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func ExamplePlan_Run() {
	ctx := context.Background()
	r, cluster := exampleRepo()
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)

	plan, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	check(err)
	data := filepath.Join(dir, "data")
	result, err := plan.Run(ctx, r, data, &restore.Options{
		Progress: func(p restore.Progress) {
			if p.Phase == "sync" {
				fmt.Printf("%d of %d bytes, %d of %d segments\n", p.RestoredBytes, p.TotalBytes, p.Segments, p.TotalSegments)
			}
		},
	})
	check(err)
	fmt.Println("start PostgreSQL on", filepath.Base(result.Directory))
	fmt.Println("differences:", cluster.Compare(data))
	// Output:
	// 82061 of 82061 bytes, 3 of 3 segments
	// start PostgreSQL on data
	// differences: <nil>
}

// A standby comes up from the backup, and streams from then on.
func ExampleStandby() {
	ctx := context.Background()
	r, _ := exampleRepo()
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)

	// No more WAL than the backup needs: the slot has kept what comes after it.
	plan, err := restore.Prepare(ctx, r, restore.Immediate(), nil)
	check(err)
	data := filepath.Join(dir, "data")
	_, err = plan.Run(ctx, r, data, &restore.Options{
		Standby:            &restore.Standby{PrimaryConnInfo: "host=db1 user=replicator", Slot: "db2"},
		KeepArchiving:      true, // once it has taken the primary's place
		WALDirectory:       filepath.Join(dir, "wal"),
		TablespacesInPlace: true,
	})
	check(err)
	_, err = os.Stat(filepath.Join(data, "standby.signal"))
	fmt.Println(err)
	// Output: <nil>
}

func ExamplePlan_Run_delta() {
	ctx := context.Background()
	r, cluster := exampleRepo()
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	plan, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	check(err)
	_, err = plan.Run(ctx, r, data, nil)
	check(err)

	// The data directory is there, and not what it should be.
	check(os.Truncate(filepath.Join(data, "base/5/16384"), 8192))
	_, err = plan.Run(ctx, r, data, nil)
	var notEmpty *restore.NotEmptyError
	fmt.Println("refused:", errors.As(err, &notEmpty))

	// What is right is left as it is, and the rest is fetched.
	result, err := plan.Run(ctx, r, data, &restore.Options{Delta: true})
	check(err)
	fmt.Println("all bytes:", result.RestoredBytes+result.ReusedBytes)
	fmt.Println("differences:", cluster.Compare(data))
	// Output:
	// refused: true
	// all bytes: 82061
	// differences: <nil>
}

func ExamplePrepare() {
	ctx := context.Background()
	r, _ := exampleRepo()

	// Nothing is touched by planning. What cannot be reached is known before.
	_, err := restore.Prepare(ctx, r, restore.AtTime(time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC)), nil)
	var unreachable *restore.UnreachableError
	if errors.As(err, &unreachable) {
		fmt.Println(unreachable.Reason)
		fmt.Println("the first point there is:", unreachable.After)
	}

	plan, err := restore.Prepare(ctx, r, restore.Immediate(), nil)
	check(err)
	for _, s := range plan.WAL {
		fmt.Println("WAL from", s.First, "to", s.Last)
	}
	// Output:
	// every backup ended after the target
	// the first point there is: 2026-01-01T00:00:01Z (0/100228)
	// WAL from 000000010000000000000001 to 000000010000000000000001
}

// Decisions are made from values alone, so a program can ask what would be if.
func ExampleNewPlan() {
	b := &backup.Summary{
		ID: "20261121T020000Z-9f3c2a", Type: backup.Full, SystemID: 7, Timeline: 1, StartLSN: 0x2000028, StopLSN: 0x3000138,
		StoppedAt: time.Date(2026, 11, 21, 2, 10, 0, 0, time.UTC), WALSegmentSize: wal.DefaultSegmentSize,
	}
	segment := func(n uint64) wal.Segment { return wal.Segment{Timeline: 1, Number: n, Size: wal.DefaultSegmentSize} }
	archive := wal.Coverage{System: wal.System{ID: 7, SegmentSize: wal.DefaultSegmentSize}, Timelines: []wal.TimelineCoverage{
		{Timeline: 1, Ranges: []wal.Range{{First: segment(2), Last: segment(5)}, {First: segment(7), Last: segment(9)}}},
	}}

	_, err := restore.NewPlan([]*backup.Summary{b}, archive, restore.Latest(), nil)
	fmt.Println(err)
	plan, err := restore.NewPlan([]*backup.Summary{b}, archive, restore.AtLSN(0x5000060), nil)
	check(err)
	fmt.Print(plan)
	// Output:
	// restore: cannot recover to the end of the archive: segment 000000010000000000000006 is missing, and there are later ones; the nearest before is 0/6000000
	// recover to 0/5000060, on timeline 1
	//   backup   20261121T020000Z-9f3c2a: full, 0 files of 0 bytes, consistent from 0/3000138 at 2026-11-21 02:10:00Z
	//   WAL      000000010000000000000002 to 000000010000000000000005
}

// ExampleWindows tells what could be recovered, and where WAL is missing.
func ExampleWindows() {
	ctx := context.Background()
	r, _ := exampleRepo()
	backups, err := backup.List(ctx, r)
	check(err)
	archive, err := wal.NewArchive(r, nil)
	check(err)
	held, err := archive.Coverage(ctx)
	check(err)
	check(archive.Times(ctx, &held)) // for the times of commits

	for _, w := range restore.Windows(backups, held) {
		fmt.Println("timeline", w.Timeline, "from", w.FromLSN, "to", w.ToLSN)
	}
	for _, t := range held.Timelines {
		fmt.Println("gaps:", t.Gaps())
	}
	// Output:
	// timeline 1 from 0/100228 to 0/400000
	// gaps: []
}

func ExampleTarget() {
	at := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	for _, t := range []restore.Target{
		restore.Latest(), restore.Immediate(), restore.AtTime(at), restore.AtTime(at).Before(), restore.AtLSN(0x16B374D848),
		restore.AtXID(4711), restore.AtName("before the migration"),
	} {
		fmt.Println(t)
	}
	// Output:
	// to the end of the archive
	// to the consistent state of the backup
	// to 2026-11-21T10:15:30Z
	// to just before 2026-11-21T10:15:30Z
	// to 16/B374D848
	// to transaction 4711
	// to restore point "before the migration"
}

func ExampleCommand() {
	command := restore.Command("/usr/bin/tool", "--repo", "/backups/100% mine", "fetch") + " %f %p"
	fmt.Println(strings.TrimSpace(command))
	// Output: '/usr/bin/tool' '--repo' '/backups/100%% mine' 'fetch' %f %p
}

// What an accident has undone is still there just before it. The event is one that Archive.Search has found.
func ExampleBefore() {
	dropped := wal.Event{Kind: wal.EventDrop, Timeline: 1, LSN: 0x5000060}
	fmt.Println(restore.Before(dropped))
	// Output: to just before 0/5000060
}

// A file of a backup, or a page of it, without restoring the rest.
func ExampleOpenFS() {
	ctx := context.Background()
	r, _ := exampleRepo()
	all, err := backup.List(ctx, r)
	check(err)

	files, err := restore.OpenFS(ctx, r, all[0].ID, nil)
	check(err)
	defer files.Close()
	version, err := fs.ReadFile(files, "PG_VERSION")
	check(err)
	fmt.Printf("PostgreSQL %s", version)
	names, err := fs.Glob(files, "base/5/16384*")
	check(err)
	fmt.Println(names)

	table, err := files.Open("base/5/16384")
	check(err)
	defer table.Close()
	page := make([]byte, 8192)
	_, err = table.(io.ReaderAt).ReadAt(page, 1*8192)
	fmt.Printf("%s %v\n", page[24:40], err)
	// Output:
	// PostgreSQL 18
	// [base/5/16384 base/5/16384_fsm]
	// a table, block 1 <nil>
}
