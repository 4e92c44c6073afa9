package repo_test

import (
	"errors"
	"fmt"

	"github.com/pgcairn/pgcairn/repo"
)

// ExampleUnreadable tells an object that cannot be read from a store that may answer the next time.
func ExampleUnreadable() {
	damaged := &repo.CorruptError{Key: "backups/20261121T101530Z-9f3c2a", Err: errors.New("checksum mismatch")}
	fmt.Println(repo.Unreadable(fmt.Errorf("list: %w", damaged)))
	fmt.Println(repo.Unreadable(errors.New("connection reset by peer")))
	// Output:
	// true
	// false
}
