package wal_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// A program that embeds a receiver runs it beside its other work, until its context ends. A server that is out of reach
// is tried again, and is no error.
func ExampleArchive_Receive() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		panic(err)
	}
	archive, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}
	err = archive.Receive(ctx, "host=/run/nowhere user=replicator", &wal.ReceiveOptions{
		Slot:       "pgcairn",
		CreateSlot: true,
		FlushEvery: time.Second, // what a lost host may cost
		Progress:   func(p wal.ReceiveProgress) { fmt.Println("stored up to", p.Durable) },
	})
	var foreign *wal.ForeignError
	switch {
	case err == nil:
		fmt.Println("stopped, and all that came is stored")
	case errors.As(err, &foreign):
		fmt.Println("this is another cluster's repository")
	default:
		fmt.Println("needs attention:", err)
	}
	// Output:
	// stopped, and all that came is stored
}
