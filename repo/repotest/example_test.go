package repotest_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/repo/repotest"
)

func ExampleMem() {
	ctx := context.Background()
	s := repotest.Mem(nil)
	for _, key := range []string{"b", "a/b", "a-b"} {
		w, err := s.Create(ctx, key)
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err := w.Commit(); err != nil {
			fmt.Println(err)
			return
		}
	}
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, info.ModTime, err)
	}
	// Output:
	// a-b 2000-01-01 00:00:02 +0000 UTC <nil>
	// a/b 2000-01-01 00:00:01 +0000 UTC <nil>
	// b 2000-01-01 00:00:00 +0000 UTC <nil>
}

// The answer to the first Commit is lost, so its object is there although the Commit failed; and whoever reads it gets
// half of it and then an error.
func ExampleFaulty() {
	ctx := context.Background()
	s := repotest.Faulty(repotest.Mem(nil),
		repotest.Fault{Op: repotest.OpCommit, Nth: 1, Do: repotest.FailAfter(nil)},
		repotest.Fault{Op: repotest.OpOpen, Key: "notes/*", Do: repotest.Cut(13)},
	)
	w, err := s.Create(ctx, "notes/first")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	if _, err := io.WriteString(w, "a cairn marks the way back"); err != nil {
		fmt.Println(err)
		return
	}
	_, err = w.Commit()
	fmt.Println(err, errors.Is(err, repotest.ErrInjected))

	body, err := s.Open(ctx, "notes/first", 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	fmt.Printf("%s: %v\n", got, err)
	// Output:
	// commit notes/first: injected fault true
	// a cairn marks: unexpected EOF
}
