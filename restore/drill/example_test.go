package drill_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/wal"
)

// exampleRepo is a repository in memory with a backup, taken at 2026-01-01 00:00:01, and some WAL.
func exampleRepo() *repo.Repo {
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
	return r
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A drill tells what is wrong, be it only that nothing leads to the target.
func ExampleRun() {
	ctx := context.Background()
	r := exampleRepo()
	report, err := drill.Run(ctx, r, restore.AtTime(time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC)), &drill.Options{
		Dir:  "/var/tmp/drill", // the same one every time
		User: "postgres",       // for root only
		Checks: []drill.Check{
			{SQL: "select count(*) > 1000000 from orders", Database: "shop"},
			{SQL: "select id from customers where balance < 0", Database: "shop", Want: [][]string{}},
			{Name: "replicas agree", Func: func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) }},
		},
		Amcheck: drill.HeapAllIndexed,
	})
	var failed *drill.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Phase)
	}
	fmt.Println(report.OK, report.Unreachable.Reason)
	// Output:
	// plan
	// false every backup ended after the target
}

// What has been planned, and perhaps shown to somebody, is drilled as it stands.
func ExampleRunPlan() {
	ctx := context.Background()
	r := exampleRepo()
	plan, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	check(err)
	report, err := drill.RunPlan(ctx, r, plan, &drill.Options{User: "no such user"})
	fmt.Println(err)
	fmt.Println(report.Plan.Target)
	// Output:
	// drill: plan: user no such user: there is no such user
	// to the end of the archive
}

func ExampleRandomBackup() {
	ctx := context.Background()
	backups, err := backup.List(ctx, exampleRepo())
	check(err)
	target, options, err := drill.RandomBackup(backups, rand.New(rand.NewPCG(1, 2)))
	check(err)
	fmt.Println(target, options.Backup == backups[0].ID)
	// Output: to the consistent state of the backup true
}

// The same numbers give the same moment.
func ExampleRandomMoment() {
	ctx := context.Background()
	r := exampleRepo()
	backups, err := backup.List(ctx, r)
	check(err)
	archive, err := wal.NewArchive(r, nil)
	check(err)
	held, err := archive.Coverage(ctx)
	check(err)
	check(archive.Times(ctx, &held))
	target, options, err := drill.RandomMoment(backups, held, rand.New(rand.NewPCG(1, 2)))
	check(err)
	fmt.Println(target, "on timeline", options.Timeline)
	// Output: to 0/23BAAC on timeline 1
}

func ExampleReport_String() {
	report := &drill.Report{
		RecoveredTo: &restore.Point{LSN: 0x5000060, Time: time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)},
		Checks: []drill.CheckResult{
			{Name: "select count(*) > 1000 from orders", Rows: 1, OK: true},
			{Name: "amcheck", Database: "shop", Rows: 70, Problems: []string{"index orders_pkey: item order invariant violated"}},
		},
		RestoreTook: 70 * time.Second, RecoveryTook: 12 * time.Second, CheckTook: 3 * time.Second,
		Phase: drill.PhaseCheck, Problem: "1 of 2 checks failed",
	}
	fmt.Print(report)
	// Output:
	// drill: FAILED, phase check: 1 of 2 checks failed
	//   recovered  to 2026-11-21T10:15:30Z (0/5000060)
	//   check      ok     select count(*) > 1000 from orders (1)
	//   check      FAILED amcheck in shop (70)
	//                index orders_pkey: item order invariant violated
	//   took       plan 0.0 s, restore 70.0 s, recovery 12.0 s, checks 3.0 s
}
