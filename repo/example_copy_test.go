package repo_test

import (
	"context"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// Two repositories, in memory here.
func exampleRepos(ctx context.Context) (from, to *repo.Repo) {
	for _, r := range []**repo.Repo{&from, &to} {
		var err error
		if *r, err = repo.Init(ctx, repotest.Mem(nil), nil); err != nil {
			panic(err)
		}
	}
	return from, to
}

func ExampleCopyObject() {
	ctx := context.Background()
	from, to := exampleRepos(ctx)
	if _, err := from.Put(ctx, "notes/first", nil, func(w io.Writer) error {
		_, err := io.WriteString(w, "a cairn marks the way back\n")
		return err
	}); err != nil {
		panic(err)
	}
	info, err := repo.CopyObject(ctx, from, to, "notes/first", nil)
	fmt.Println(info.Key, err)
	// Output: notes/first <nil>
}

func ExampleCopyPack() {
	ctx := context.Background()
	from, to := exampleRepos(ctx)
	w, err := from.CreatePack(ctx, "packs/20261121T101530Z-9f3c2a/00000001", nil)
	if err != nil {
		panic(err)
	}
	defer w.Close()
	if err := w.Append([]byte("a cairn marks the way back\n")); err != nil {
		panic(err)
	}
	p, err := w.Commit()
	if err != nil {
		panic(err)
	}
	copied, err := repo.CopyPack(ctx, from, to, p, nil)
	fmt.Println(copied.Size == p.Size, err)
	// Output: true <nil>
}

func ExampleCopyRecord() {
	ctx := context.Background()
	from, to := exampleRepos(ctx)
	if err := from.CreateRecord(ctx, "notes/1", map[string]string{"what": "a cairn"}); err != nil {
		panic(err)
	}
	fmt.Println(repo.CopyRecord(ctx, from, to, "notes/1"))
	// Output: <nil>
}
