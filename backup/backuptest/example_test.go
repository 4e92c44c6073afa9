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
)

// What a unit test of a backup and its restore does. Nothing of it needs a server.
func Example() {
	ctx := context.Background()
	c := backuptest.New(nil)
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	check(err)
	m, err := backup.Take(ctx, r, c, &backup.Options{Labels: map[string]string{"by": "a test"}})
	check(err)

	plan, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	check(err)
	dir, err := os.MkdirTemp("", "data")
	check(err)
	defer os.RemoveAll(dir)
	_, err = plan.Run(ctx, r, dir, nil)
	check(err)

	fmt.Println(plan.Backup.ID == m.ID, plan.Backup.Labels["by"])
	fmt.Println("differences:", c.Compare(dir))
	// Output:
	// true a test
	// differences: <nil>
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
