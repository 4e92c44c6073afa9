package retention_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/retention"
)

func ExampleNewPlan() {
	ctx, r := context.Background(), threeBackups()
	plan, err := retention.NewPlan(ctx, r, retention.Policy{KeepLast: 1}, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("to drop:", len(plan.Drop), "to keep:", len(plan.Keep), "to free:", plan.Bytes() > 0)

	// This far it was a dry run.
	result, err := plan.Apply(ctx, r)
	if err != nil {
		panic(err)
	}
	all, err := backup.List(ctx, r)
	fmt.Println("dropped:", len(result.Dropped), "left:", len(all), err)
	// Output:
	// to drop: 2 to keep: 1 to free: true
	// dropped: 2 left: 1 <nil>
}

func ExamplePlan_Apply() {
	ctx, r := context.Background(), threeBackups()
	plan, err := retention.NewPlan(ctx, r, retention.Policy{KeepLast: 1}, nil)
	if err != nil {
		panic(err)
	}
	// Somebody decides that one of them is to stay, while an operator reads the plan.
	if err := backup.Pin(ctx, r, plan.Drop[0].Backup); err != nil {
		panic(err)
	}
	_, err = plan.Apply(ctx, r)
	fmt.Println(err != nil)
	// Output:
	// true
}

// threeBackups is a repository with three backups, a day apart.
func threeBackups() *repo.Repo {
	ctx := context.Background()
	var at clock
	at.set(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	now := func() time.Time { return at.add(time.Millisecond) }
	r, err := repo.Init(ctx, repotest.Mem(&repotest.MemOptions{Now: now}), &repo.Options{Now: now})
	if err != nil {
		panic(err)
	}
	cluster := backuptest.New(&backuptest.Options{Now: now})
	for range 3 {
		if _, err := backup.Take(ctx, r, cluster, &backup.Options{Jobs: 1}); err != nil {
			panic(err)
		}
		cluster.Switch(2)
		at.add(24 * time.Hour)
	}
	return r
}
