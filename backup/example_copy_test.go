package backup_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
)

func ExampleCopy() {
	ctx := context.Background()
	from, to := exampleRepo(), exampleRepo() // in a program, in another region, and with keys of its own
	if _, err := backup.Take(ctx, from, backuptest.New(nil), nil); err != nil {
		panic(err)
	}
	for range 2 {
		result, err := backup.Copy(ctx, from, to, nil)
		var damaged *backup.CopyError
		switch {
		case errors.As(err, &damaged):
			fmt.Println("all but these was copied:", damaged.Problems)
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(len(result.Backups), "backups and", result.Segments, "segments copied,", len(result.Present), "there before")
		}
	}
	// Output:
	// 1 backups and 1 segments copied, 0 there before
	// 0 backups and 0 segments copied, 1 there before
}
