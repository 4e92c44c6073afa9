package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func ExampleOpenDir() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "pgcairn")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	s, err := repo.OpenDir(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	create := func(text string) error {
		w, err := s.Create(ctx, "notes/first")
		if err != nil {
			return err
		}
		defer w.Close() // aborts unless Commit was reached
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		_, err = w.Commit()
		return err
	}
	fmt.Println("created:", create("a cairn marks the way back"))
	fmt.Println("exists: ", errors.Is(create("again"), fs.ErrExist))

	body, err := s.Open(ctx, "notes/first", 2, 5)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	part, err := io.ReadAll(body)
	fmt.Printf("read:    %s %v\n", part, err)
	// Output:
	// created: <nil>
	// exists:  true
	// read:    cairn <nil>
}

func ExampleObserve() {
	ctx := context.Background()
	s := repo.Observe(repotest.Mem(nil), func(op repo.Op) {
		fmt.Println(op.Name, op.Key, op.Bytes, op.Err) // or add op.Took to a histogram
	})
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
	if _, err := w.Commit(); err != nil {
		fmt.Println(err)
		return
	}
	_, _ = s.Stat(ctx, "notes/second")
	// Output:
	// create notes/first 26 <nil>
	// stat notes/second 0 stat notes/second: file does not exist
}
