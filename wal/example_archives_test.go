package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// exampleMembers are two repositories: one with segments 1 and 2, and one that is out of reach.
func exampleMembers(ctx context.Context) ([]wal.Member, error) {
	archive, err := exampleArchive(ctx)
	return []wal.Member{
		{Name: "near", Open: func(ctx context.Context) (*wal.Archive, error) {
			down := repotest.Faulty(repotest.Mem(nil), repotest.Fault{})
			r, err := repo.Open(ctx, down, nil)
			if err != nil {
				return nil, err
			}
			return wal.NewArchive(r, nil)
		}},
		{Name: "far", Open: func(context.Context) (*wal.Archive, error) { return archive, nil }},
	}, err
}

// While one repository is down, the other serves, but that a segment does not exist takes the answers of both.
func ExampleNewArchives() {
	ctx := context.Background()
	members, err := exampleMembers(ctx)
	if err != nil {
		panic(err)
	}
	archives, err := wal.NewArchives(members, nil)
	if err != nil {
		panic(err)
	}
	defer archives.Close()
	for number := range uint64(3) {
		s := wal.Segment{Timeline: 1, Number: number + 1, Size: wal.MinSegmentSize}
		var b bytes.Buffer
		err := archives.Read(ctx, s.Name(), &b)
		fmt.Println(s.Number, b.Len(), err != nil, errors.Is(err, fs.ErrNotExist))
	}
	// Output:
	// 1 1048576 false false
	// 2 1048576 false false
	// 3 0 true false
}

// A push is content with one of two repositories. What the other lacks it is brought when it is back.
func ExampleArchives_Heal() {
	ctx := context.Background()
	pgdata, err := exampleBacklog()
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(pgdata)
	fault := repotest.Fault{Op: repotest.OpCommit}
	var members []wal.Member
	for i, store := range []repo.Store{repotest.Mem(nil), repotest.Mem(nil)} {
		if _, err := repo.Init(ctx, store, nil); err != nil {
			panic(err)
		}
		members = append(members, wal.Member{Name: fmt.Sprint("repository ", i+1), Open: func(ctx context.Context) (*wal.Archive, error) {
			s := store
			if i == 1 {
				s = repotest.Faulty(store, fault)
			}
			r, err := repo.Open(ctx, s, nil)
			if err != nil {
				return nil, err
			}
			return wal.NewArchive(r, nil)
		}})
	}
	open := func() *wal.Archives { // as each process does
		archives, err := wal.NewArchives(members, &wal.ArchivesOptions{Durable: 1})
		if err != nil {
			panic(err)
		}
		return archives
	}
	path := filepath.Join(pgdata, "pg_wal", "000000010000000000000001")
	fmt.Println("push:", open().Push(ctx, path))
	fault.Nth = 1000 // it is back
	healed, err := open().Heal(ctx, &wal.HealOptions{PGData: pgdata, MaxAge: 100 * 365 * 24 * time.Hour})
	for _, h := range healed {
		fmt.Println(h.Name, h.Owed, h.Brought)
	}
	fmt.Println(err)
	// Output:
	// push: <nil>
	// repository 1 0 0
	// repository 2 1 1
	// <nil>
}
