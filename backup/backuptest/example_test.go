package backuptest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// What a unit test of backups and a restore does: a full one, a change, and an incremental one, which alone is restored.
func Example() {
	ctx := context.Background()
	c := backuptest.New(&backuptest.Options{Logged: true})
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	check(err)
	_, err = backup.Take(ctx, r, c, nil)
	check(err)
	c.Write("base/5/16384", backuptest.Pages(0, 4, uint64(c.LSN()), "a table"))
	m, err := backup.Take(ctx, r, c, &backup.Options{Type: backup.Incremental, Labels: map[string]string{"by": "a test"}})
	check(err)

	plan, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	check(err)
	dir, err := os.MkdirTemp("", "data")
	check(err)
	defer os.RemoveAll(dir)
	_, err = plan.Run(ctx, r, dir, nil)
	check(err)
	fmt.Println(m.Method, plan.Backup.Type, plan.Backup.Labels["by"], c.Compare(dir))
	// Output: wal-index incremental a test <nil>
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func ExampleNew() {
	// A cluster that is these files.
	c := backuptest.New(&backuptest.Options{Files: os.DirFS("testdata/cluster"), PGVersion: 170002})
	fmt.Println(c.Files())
	// Output: [PG_VERSION base/1/notes]
}

// A file that vanishes after it was listed is no error: what replays the WAL knows.
func ExampleOptions_hook() {
	var c *backuptest.Cluster
	c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpOpen {
			c.Remove("base/5/16390")
		}
		return nil
	}})
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	check(err)
	listed := len(c.Files())
	m, err := backup.Take(ctx, r, c, nil)
	fmt.Println(listed-m.Files, err)
	// Output: 1 <nil>
}

// Pages that rot are found by every backup that has them, and told by the names that the server knows.
func ExampleCluster_Damage() {
	ctx := context.Background()
	c := backuptest.New(&backuptest.Options{Catalog: &backup.Catalog{
		Databases: []backup.Database{{OID: 5, Name: "postgres", Tablespace: 1663}},
		Relations: []backup.Relation{{Database: 5, OID: 16384, Schema: "public", Name: "cairns", Kind: "r", Tablespace: 1663, Filenode: 16384}},
	}})
	c.Damage("base/5/16384", 1)
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	check(err)
	m, err := backup.Take(ctx, r, c, nil)
	check(err)
	for page := range m.Damage() {
		fmt.Println(page.Database, page.Schema, page.Relation, page.Block)
	}
	// Output: postgres public cairns 1
}

// A recovery to a name, without a server: the plan tells whether the WAL leads there.
func ExampleCluster_RestorePoint() {
	ctx := context.Background()
	c := backuptest.New(&backuptest.Options{Logged: true})
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	check(err)
	_, err = backup.Take(ctx, r, c, nil)
	check(err)
	c.Commit()
	at := c.RestorePoint("before the flood")
	c.Switch(1)
	a, err := wal.NewArchive(r, nil)
	check(err)
	check(c.Archive(ctx, a))
	events := a.Search(ctx, wal.Query{Kinds: []wal.EventKind{wal.EventRestorePoint}})
	for e, err := range events {
		fmt.Println(e.Name, e.End == at, err)
	}
	_, err = restore.Prepare(ctx, r, restore.AtName("before the flood"), nil)
	fmt.Println(err)
	// Output:
	// before the flood true <nil>
	// <nil>
}
