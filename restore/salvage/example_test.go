package salvage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/salvage"
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

// The rows of a table as they were, in COPY's text format, and two tables for pg_restore. Here nothing leads to the target.
func ExampleRun() {
	ctx := context.Background()
	r := exampleRepo()
	dump, err := os.CreateTemp("", "orders.dump")
	check(err)
	defer func() { check(os.Remove(dump.Name())) }()
	tables := []salvage.Table{{Schema: "public", Name: "orders"}, {Schema: "public", Name: "items"}}
	report, err := salvage.Run(ctx, r, restore.AtTime(time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC)), "shop", tables, &salvage.Options{
		Dump: dump,
		Func: func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.PgConn().CopyTo(ctx, os.Stdout, "copy "+tables[0].String()+" to stdout")
			return err
		},
		User: "postgres", // for root only
	})
	check(dump.Close())
	var failed *salvage.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Phase)
	}
	fmt.Println(report.OK, report.Unreachable.Reason)
	// Output:
	// plan
	// false every backup ended after the target
}

func ExampleParseTable() {
	t, err := salvage.ParseTable(`public."Orders.2026"`)
	check(err)
	fmt.Println(t.Schema, t.Name)
	// Output: public Orders.2026
}

func ExampleReport_String() {
	report := &salvage.Report{
		RecoveredTo: &restore.Point{LSN: 0x5000060, Time: time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)},
		Tables:      []salvage.TableReport{{Table: salvage.Table{Schema: "public", Name: "orders"}, OID: 16390, Rows: 1000, Bytes: 81920}},
		RestoreTook: 7 * time.Second, RecoveryTook: 12 * time.Second, TablesTook: 3 * time.Second, OK: true,
	}
	fmt.Print(report)
	// Output:
	// salvage: ok
	//   recovered  to 2026-11-21T10:15:30Z (0/5000060)
	//   table      "public"."orders": 1000 rows, 81920 bytes
	//   took       plan 0.0 s, restore 7.0 s, recovery 12.0 s, tables 3.0 s
}
