package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// exampleBacklog makes a data directory, of which only pg_wal is there, with three segments that are ready.
func exampleBacklog() (pgdata string, err error) {
	if pgdata, err = os.MkdirTemp("", "example"); err != nil {
		return "", err
	}
	status := filepath.Join(pgdata, "pg_wal", "archive_status")
	if err := os.MkdirAll(status, 0o700); err != nil {
		return "", err
	}
	for number := range uint64(3) {
		s := wal.Segment{Timeline: 1, Number: number + 1, Size: wal.MinSegmentSize}
		err := errors.Join(
			os.WriteFile(filepath.Join(pgdata, "pg_wal", s.Name()), waltest.Segment(s, 4711, 18), 0o600),
			os.WriteFile(filepath.Join(status, s.Name()+".ready"), nil, 0o600),
		)
		if err != nil {
			return "", err
		}
	}
	return pgdata, nil
}

// A program beside the server archives what is ready.
func ExampleArchive_PushReady() {
	ctx := context.Background()
	pgdata, err := exampleBacklog()
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(pgdata)
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{StateDir: filepath.Join(pgdata, "state")})
	if err != nil {
		panic(err)
	}
	archive, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}
	for range 2 {
		pushed, err := archive.PushReady(ctx, pgdata, nil)
		for _, f := range pushed.Files {
			fmt.Println(f.Name, f.Err, f.Remembered)
		}
		fmt.Println(err)
	}
	// Output:
	// 000000010000000000000001 <nil> false
	// 000000010000000000000002 <nil> false
	// 000000010000000000000003 <nil> false
	// <nil>
	// 000000010000000000000001 <nil> true
	// 000000010000000000000002 <nil> true
	// 000000010000000000000003 <nil> true
	// <nil>
}

// An archive_command is called with %p. The first call clears the backlog, and the next ones need no request.
func ExampleArchive_PushAsked() {
	ctx := context.Background()
	pgdata, err := exampleBacklog()
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(pgdata)
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{StateDir: filepath.Join(pgdata, "state")})
	if err != nil {
		panic(err)
	}
	archive, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}
	for number := range uint64(3) {
		s := wal.Segment{Timeline: 1, Number: number + 1, Size: wal.MinSegmentSize}
		pushed, err := archive.PushAsked(ctx, filepath.Join(pgdata, "pg_wal", s.Name()), nil)
		fmt.Println(err, len(pushed.Files), pushed.Files[0].Remembered)
	}
	// Output:
	// <nil> 3 false
	// <nil> 1 true
	// <nil> 1 true
}

// A restore_command that is served from within a program finds the next segments on this host already.
func ExampleArchive_Prefetch() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	ahead, err := archive.Prefetch(&wal.PrefetchOptions{Dir: filepath.Join(dir, "ahead"), Segments: 16})
	if err != nil {
		panic(err)
	}
	defer ahead.Close()
	for number := range uint64(3) {
		s := wal.Segment{Timeline: 1, Number: number + 1, Size: wal.MinSegmentSize}
		err := ahead.Fetch(ctx, s.Name(), filepath.Join(dir, "RECOVERYXLOG"))
		fmt.Println(s.Number, errors.Is(err, fs.ErrNotExist))
	}
	// Output:
	// 1 false
	// 2 false
	// 3 true
}

// A program serves archive_command and restore_command from its own process. The commands themselves are as small as the
// client: `pgcairn wal push %p` is one, when PGCAIRN_SOCKET is set.
func ExampleServe() {
	ctx, cancel := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "example") // of mode 0700: only this user can connect
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	archive, err := exampleArchive(ctx)
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- wal.Serve(ctx, listener, archive, nil) }()

	client := wal.Client{Socket: filepath.Join(dir, "socket")}
	s := wal.Segment{Timeline: 1, Number: 3, Size: wal.MinSegmentSize}
	path := filepath.Join(dir, s.Name())
	fmt.Println("missing:", errors.Is(client.Fetch(ctx, s.Name(), path), fs.ErrNotExist))
	if err := os.WriteFile(path, waltest.Segment(s, 4711, 18), 0o600); err != nil {
		panic(err)
	}
	fmt.Println("push:", client.Push(ctx, path))
	fmt.Println("fetch:", client.Fetch(ctx, s.Name(), path))
	cancel()
	fmt.Println("ended:", <-ended)
	// Output:
	// missing: true
	// push: <nil>
	// fetch: <nil>
	// ended: <nil>
}
