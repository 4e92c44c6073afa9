package backup_test

import (
	"context"
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
)

func ExamplePin() {
	ctx, r := context.Background(), exampleRepo()
	m, err := backup.Take(ctx, r, backuptest.New(nil), nil)
	if err != nil {
		panic(err)
	}
	for _, do := range []func() error{
		func() error { return backup.Pin(ctx, r, m.ID) },
		func() error { return backup.Unpin(ctx, r, m.ID) },
	} {
		if err := do(); err != nil {
			panic(err)
		}
		pinned, err := backup.Pinned(ctx, r)
		fmt.Println(pinned[m.ID], err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleUse() {
	ctx, r := context.Background(), exampleRepo()
	m, err := backup.Take(ctx, r, backuptest.New(nil), nil)
	if err != nil {
		panic(err)
	}
	// What reads a backup for long, such as a copy to a tape, keeps it from being dropped meanwhile.
	err = backup.Use(ctx, r, m.ID, func(ctx context.Context) error {
		users, err := backup.Users(ctx, r)
		fmt.Println(len(users), users[0].Backup == m.ID)
		return err
	})
	users, listed := backup.Users(ctx, r)
	fmt.Println(err, len(users), listed)
	// Output:
	// 1 true
	// <nil> 0 <nil>
}
