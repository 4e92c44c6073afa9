package backup_test

import (
	"errors"
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// ExampleUnreadable goes through what List could not read, beside the backups that it returns all the same.
func ExampleUnreadable() {
	key := "backups/20261121T101530Z-9f3c2a"
	listed := errors.Join(&backup.UnreadableError{Key: key, Err: &repo.CorruptError{Key: key, Err: errors.New("checksum mismatch")}})
	for _, u := range backup.Unreadable(listed) {
		fmt.Println(u.Key)
	}
	// Output: backups/20261121T101530Z-9f3c2a
}
