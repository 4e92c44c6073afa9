package backup_test

import (
	"errors"
	"io/fs"
	"path"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// A source that does not keep files open may find a segment recycled after it was opened.
func TestWALThatVanishesWhileItIsRead(t *testing.T) {
	t.Parallel()
	outage := errors.New("the store is on fire")
	for _, tt := range []struct {
		name     string
		archived bool
		fault    repotest.Fault // of the store, unless Op is empty
		want     func(t *testing.T, err error)
	}{
		{name: "archived", archived: true, want: func(t *testing.T, err error) { require.NoError(t, err) }},
		{name: "lost", want: func(t *testing.T, err error) {
			var missing *backup.MissingWALError
			require.ErrorAs(t, err, &missing)
		}},
		{
			name: "nobody knows", archived: true, fault: repotest.Fault{Op: repotest.OpStat, Key: "wal/*/*/*/*", Do: repotest.Fail(outage)},
			want: func(t *testing.T, err error) { require.ErrorIs(t, err, outage) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, nil, nil)
			a, err := wal.NewArchive(r, nil)
			require.NoError(t, err)
			var c *backuptest.Cluster
			c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
				if call.Op != backuptest.OpRead || path.Dir(call.Path) != "pg_wal" || call.Off == 0 {
					return nil
				}
				if tt.archived {
					if err := c.Archive(t.Context(), a); err != nil {
						return err
					}
				}
				return &fs.PathError{Op: "read", Path: call.Path, Err: fs.ErrNotExist}
			}})
			faulty := r
			if tt.fault.Op != "" {
				faulty, err = repo.Open(t.Context(), repotest.Faulty(r.Store(), tt.fault), nil)
				require.NoError(t, err)
			}
			_, err = backup.Take(t.Context(), faulty, c, nil)
			tt.want(t, err)
			if err != nil {
				requireNoAnswer(t, err)
				require.Empty(t, keys(t, r.Store(), "backups/"))
			}
			requireSound(t, r)
		})
	}
}
