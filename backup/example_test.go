package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// exampleRepo is a repository in memory. A program has repo.OpenDir or bucket.New instead.
func exampleRepo() *repo.Repo {
	r, err := repo.Init(context.Background(), repotest.Mem(nil), nil)
	if err != nil {
		panic(err)
	}
	return r
}

func ExampleTake() {
	ctx, r := context.Background(), exampleRepo()
	// A program has backup.Directory instead.
	var cluster backup.Source = backuptest.New(nil)

	m, err := backup.Take(ctx, r, cluster, &backup.Options{
		Labels: map[string]string{"reason": "before the upgrade"},
		Progress: func(p backup.Progress) {
			if p.Phase == "commit" {
				fmt.Printf("%d of %d bytes read\n", p.ReadBytes, p.Total)
			}
		},
	})
	var held *repo.LeaseError
	switch {
	case errors.As(err, &held):
		fmt.Println("another backup is going on, until", held.Expires)
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println(m.Type, m.Files, "files, consistent from", m.StopLSN)
	}
	// Output:
	// 107161 of 107161 bytes read
	// full 17 files, consistent from 0/100228
}

func ExampleDirectory() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	// The connection is made by Take.
	src, err := backup.Directory(dir, "host=/run/postgresql dbname=postgres", nil)
	if err != nil {
		panic(err)
	}
	_, err = backup.Take(context.Background(), exampleRepo(), src, nil)
	var wrong *backup.DirectoryError
	fmt.Println(errors.As(err, &wrong), wrong.Reason)
	// Output: true it is not a data directory: it has no global/pg_control
}

func ExampleSQL() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	// Nothing runs on the server's host. As many connections as are worth their while read files beside each other.
	src, err := backup.SQL("host="+dir+" port=5432 user=backup dbname=postgres", &backup.SQLOptions{Connections: 8})
	if err != nil {
		panic(err)
	}
	_, err = backup.Take(context.Background(), exampleRepo(), src, &backup.Options{Jobs: 8})
	var (
		connect *pgconn.ConnectError
		denied  *backup.PrivilegeError
		lost    *backup.SessionLostError
	)
	switch {
	case errors.As(err, &connect):
		fmt.Println("there is no server at", connect.Config.Port)
	case errors.As(err, &denied):
		fmt.Println("a superuser has to execute", denied.Grant())
	case errors.As(err, &lost):
		fmt.Println("the server was restarted meanwhile: try again")
	}
	// Output: there is no server at 5432
}

func ExampleReplication() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	// The role needs REPLICATION and nothing more. Since PostgreSQL 17, with summarize_wal on, the server sends only what
	// has changed.
	src, err := backup.Replication("host="+dir+" port=5432 user=replicator", nil)
	if err != nil {
		panic(err)
	}
	_, err = backup.Take(context.Background(), exampleRepo(), src, &backup.Options{Type: backup.Auto})
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		fmt.Println("there is no server at", connect.Config.Port)
	}
	// Output: there is no server at 5432
}

func ExampleServerManifest() {
	ctx, r := context.Background(), exampleRepo()
	m, err := backup.Take(ctx, r, backuptest.New(nil), nil)
	if err != nil {
		panic(err)
	}
	// What pg_verifybackup compares a restored directory with.
	text, err := backup.ServerManifest(ctx, r, m.ID)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("this backup was not sent by a server")
		return
	}
	if err != nil {
		panic(err)
	}
	defer text.Close()
	if _, err := io.Copy(os.Stdout, text); err != nil {
		panic(err)
	}
	// Output: this backup was not sent by a server
}

func ExampleList() {
	ctx, r := context.Background(), exampleRepo()
	cluster := backuptest.New(nil)
	for _, day := range []string{"monday", "tuesday"} {
		if _, err := backup.Take(ctx, r, cluster, &backup.Options{Labels: map[string]string{"day": day}}); err != nil {
			panic(err)
		}
	}

	all, err := backup.List(ctx, r)
	if err != nil {
		// Some may be corrupt; those in all are not.
		fmt.Println(err)
	}
	for _, b := range all {
		fmt.Println(b.Labels["day"], b.StartLSN, b.StopLSN, b.BadPages)
	}
	// Output:
	// monday 0/100028 0/100228 0
	// tuesday 0/200028 0/200228 0
}

func ExampleLoad() {
	ctx, r := context.Background(), exampleRepo()
	taken, err := backup.Take(ctx, r, backuptest.New(nil), nil)
	if err != nil {
		panic(err)
	}

	m, err := backup.Load(ctx, r, taken.ID)
	if err != nil {
		panic(err)
	}
	for _, f := range m.FileList[:4] {
		fmt.Println(f.Path, f.Size, f.Data)
	}
	// Output:
	// PG_VERSION 3 3
	// base/1/1259 24576 24576
	// base/1/1259_vm 8192 8192
	// base/1/PG_VERSION 3 3
}

func ExampleParseID() {
	id, err := backup.ParseID("20261121T101530Z-9f3c2a")
	if err != nil {
		panic(err)
	}
	fmt.Println(id.Time())
	_, err = backup.ParseID("latest")
	fmt.Println(err)
	// Output:
	// 2026-11-21 10:15:30 +0000 UTC <nil>
	// backup: "latest" is not the ID of a backup
}

func ExampleOrphans() {
	ctx, r := context.Background(), exampleRepo()
	// This one ends before it can store its manifest, as if it were killed.
	broken, err := repo.Open(ctx, repotest.Faulty(r.Store(),
		repotest.Fault{Op: repotest.OpCreate, Key: "backups/*", Do: repotest.Fail(nil)}), nil)
	if err != nil {
		panic(err)
	}
	cluster := backuptest.New(nil)
	if _, err := backup.Take(ctx, broken, cluster, &backup.Options{Jobs: 1}); err == nil {
		panic("it has ended well")
	}

	count := func() (packs int, bytes int64) {
		// While a backup is in progress, its packs are orphans.
		err = r.WithLease(ctx, backup.LeaseName, func(ctx context.Context, _ *repo.Lease) error {
			for o, err := range backup.Orphans(ctx, r) {
				if err != nil {
					return err
				}
				packs, bytes = packs+1, bytes+o.Size
			}
			return nil
		})
		if err != nil {
			panic(err)
		}
		return packs, bytes
	}
	packs, bytes := count()
	fmt.Println("a killed backup has left packs:", packs, bytes > 0)

	m, err := backup.Take(ctx, r, cluster, nil)
	if err != nil {
		panic(err)
	}
	packs, _ = count()
	fmt.Println("taken over:", m.ReusedBytes > 0, "stored anew:", m.StoredBytes, "left over:", packs)
	// Output:
	// a killed backup has left packs: 1 true
	// taken over: true stored anew: 0 left over: 0
}

// When was the repository last put to the test, and was all well?
func ExampleLastReceipt() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = backup.LastReceipt(ctx, r, backup.ReceiptDrill)
	fmt.Println("no drill yet:", errors.Is(err, fs.ErrNotExist))

	ended := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	err = backup.WriteReceipt(ctx, r, &backup.Receipt{Kind: backup.ReceiptDrill, BeganAt: ended.Add(-time.Minute), EndedAt: ended, OK: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	last, err := backup.LastReceipt(ctx, r, backup.ReceiptDrill)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(last.EndedAt, last.OK)
	// Output:
	// no drill yet: true
	// 2026-11-21 10:15:30 +0000 UTC true
}

// Has anything been found that nobody has looked at again since?
func ExampleReceipts() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	for _, t := range []backup.Receipt{{Whole: true, ReadData: true, Problems: 1, Problem: "it is rotten"}, {Whole: true, OK: true}} {
		if t.Kind = backup.ReceiptVerify; err == nil {
			err = backup.WriteReceipt(ctx, r, &t)
		}
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := backup.Receipts(ctx, r, backup.ReceiptVerify)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(all[0].OK, all[1].Problem, "and read again:", all[0].Covers(all[1]))
	// Output:
	// true it is rotten and read again: false
}

// Is what the repository holds whole? The first run reads all, later ones what is new, or due again.
func ExampleVerify() {
	ctx := context.Background()
	c := backuptest.New(nil)
	store := repotest.Mem(nil)
	r, err := repo.Init(ctx, store, &repo.Options{Now: c.Now})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := backup.Take(ctx, r, c, nil); err != nil {
		fmt.Println(err)
		return
	}
	report, err := backup.Verify(ctx, r, &backup.VerifyOptions{ReadData: true, MaxAge: 7 * 24 * time.Hour})
	if err != nil {
		fmt.Println("could not look:", err)
		return
	}
	fmt.Println(report.OK(), report.ReadObjects > 0)

	for info, err := range store.List(ctx, "packs/") {
		if err != nil || store.Delete(ctx, info.Key) != nil {
			fmt.Println("not deleted:", err)
			return
		}
		break // there may be more
	}
	report, err = backup.Verify(ctx, r, nil)
	if err != nil {
		fmt.Println("could not look:", err)
		return
	}
	for _, p := range report.Problems {
		fmt.Println(p.Err, "- costs", len(p.Backups), "backup")
	}
	// Output:
	// true true
	// it is missing - costs 1 backup
}
