package wal_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// Package backup's Copy does this, and copies backups.
func ExampleCopier() {
	ctx := context.Background()
	var repos [2]*repo.Repo
	for i := range repos {
		var err error
		if repos[i], err = repo.Init(ctx, repotest.Mem(nil), nil); err != nil {
			panic(err)
		}
	}
	a, err := wal.NewArchive(repos[0], nil)
	if err != nil {
		panic(err)
	}
	s := wal.Segment{Timeline: 1, Number: 2, Size: wal.MinSegmentSize}
	name, err := wal.ParseName(s.Name())
	if err != nil {
		panic(err)
	}
	content := waltest.Segment(s, 7000000000000000001, 18)
	if err := a.PushContent(ctx, name, bytes.NewReader(content), int64(len(content))); err != nil {
		panic(err)
	}

	c, err := wal.NewCopier(ctx, repos[0], repos[1])
	if err != nil {
		panic(err)
	}
	if err := c.Claim(ctx); err != nil {
		panic(err)
	}
	files, err := c.Files(ctx)
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		err := c.Copy(ctx, f, nil)
		fmt.Println(f.Key, err)
	}
	// Output: wal/7000000000000000001/00000001/00000000000000/000000010000000000000002 <nil>
}
