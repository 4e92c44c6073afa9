package restore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// fetchEnv holds the scratch directory of a test binary that was started as a restore_command: in it are the repository,
// how many calls on the store there have been, and the number of the one that fails.
const fetchEnv = "PGCAIRN_TEST_FETCH"

// fetchAsCommand fetches a file as a program has to that PostgreSQL starts, and returns its exit code.
func fetchAsCommand(ctx context.Context, scratch, name, dst string) int {
	err := func() error {
		number := func(file string) (int, error) {
			b, err := os.ReadFile(filepath.Join(scratch, file))
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(string(b))
		}
		calls, err1 := number("calls")
		fails, err2 := number("fails")
		dir, err3 := repo.OpenDir(filepath.Join(scratch, "repo"), nil)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		fault := repotest.Fault{Nth: fails - calls, Do: repotest.Fail(nil)}
		if fault.Nth < 1 {
			fault.Nth = 1 << 30
		}
		s := repotest.Faulty(dir, fault)
		err := func() error {
			r, err := repo.Open(ctx, s, nil)
			if err != nil {
				return err
			}
			a, err := wal.NewArchive(r, nil)
			if err != nil {
				return err
			}
			return a.Fetch(ctx, name, dst)
		}()
		text := strconv.Itoa(calls + len(s.Calls()))
		return errors.Join(err, os.WriteFile(filepath.Join(scratch, "calls"), []byte(text), 0o600))
	}()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrNotExist):
		return 1
	}
	fmt.Fprintln(os.Stderr, err)
	return 200
}

// TestRecoveryWhenTheStoreFails: whatever call on the store fails while PostgreSQL fetches WAL, recovery does not end early:
// the server stops, and once the store is well again it recovers all there is.
func TestRecoveryWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, pgtest.Newest()} {
		scratch := pgtest.Dir(t)
		store, err := repo.OpenDir(filepath.Join(scratch, "repo"), nil)
		require.NoError(t, err)
		r, err := repo.Init(t.Context(), store, nil)
		require.NoError(t, err)
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: archiving()})
		c.Exec(t, `create table marks (n int)`)
		_, err = backup.Take(t.Context(), r, source(t, c), nil)
		require.NoError(t, err)
		for n := range 3 {
			c.Exec(t, `select pg_switch_wal()`)
			mark(t, c, n)
		}
		pushAll(t, c, r)

		program := filepath.Join(scratch, "fetch") // where the user that servers run as can reach it
		self, err := os.ReadFile(os.Args[0])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(program, self, 0o755))
		command := "env " + restore.Command(fetchEnv+"="+scratch, program) + " %f %p"
		p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
		require.NoError(t, err)
		dir := filepath.Join(pgtest.Dir(t), "data")
		_, err = p.Run(t.Context(), r, dir, &restore.Options{RestoreCommand: command})
		require.NoError(t, err)
		number := func(file string, n int) {
			require.NoError(t, os.WriteFile(filepath.Join(scratch, file), []byte(strconv.Itoa(n)), 0o600))
		}
		for n := 1; ; n++ {
			number("calls", 0)
			number("fails", n)
			pgtest.Own(t, scratch)
			b, err := pgtest.TryBoot(t, dir, major, nil)
			text, readErr := os.ReadFile(filepath.Join(scratch, "calls"))
			require.NoError(t, readErr)
			calls, numErr := strconv.Atoi(string(text))
			require.NoError(t, numErr)
			if calls < n {
				require.NoError(t, err)
				require.Greater(t, n, 15)
				require.Equal(t, []int32{0, 1, 2}, marks(t, b))
				b.StopImmediate(t)
				break
			}
			require.Error(t, err, "call %d of %d failed", n, calls)
			require.Contains(t, err.Error(), repotest.ErrInjected.Error())
			if strings.Contains(err.Error(), "archive recovery complete") { // it asks for a history even then
				require.Contains(t, err.Error(), `restored log file "`+p.WAL[0].Last.Name()+`"`, "after all there is")
			}
		}
	}
}
