package backup_test

import (
	"context"
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// One backup of a cluster into two repositories, which is good enough when it is in one of them.
func ExampleTakeAll() {
	ctx := context.Background()
	var repos []*repo.Repo
	for range 2 {
		r, err := repo.Init(ctx, repotest.Mem(nil), nil)
		if err != nil {
			panic(err)
		}
		repos = append(repos, r)
	}
	taken, err := backup.TakeAll(ctx, repos, backuptest.New(nil), &backup.AllOptions{Enough: 1})
	for _, t := range taken {
		fmt.Println(t.Manifest.Type, t.Err)
	}
	fmt.Println(err)
	// Output:
	// full <nil>
	// full <nil>
	// <nil>
}
