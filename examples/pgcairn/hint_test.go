package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/restore/salvage"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// TestHints: every error that something can be done about has a hint of its own, through all its wraps.
func TestHints(t *testing.T) {
	seen := map[string]error{}
	for _, err := range []error{
		context.DeadlineExceeded, &timeoutError{err: context.DeadlineExceeded}, &socketError{err: syscall.ECONNREFUSED},
		repo.ErrNoRepository, repo.ErrEncrypted, repo.ErrNotEncrypted, repo.ErrUnsafeStore, repo.ErrLeaseLost,
		&repo.FormatError{}, &repo.LeaseError{}, &repo.HardLinkError{Err: syscall.EPERM}, &repo.CorruptError{Err: errors.New("x")},
		crypto.ErrNoRecipients, &crypto.IdentityError{},
		&repo.LeaseError{Name: "keys"}, &repo.LockoutError{Err: &crypto.IdentityError{}}, &repo.RotationError{},
		&wal.ForeignError{}, &wal.ForeignError{Earlier: true}, &wal.AmbiguousError{}, &wal.ConflictError{}, &wal.SegmentError{Err: errors.New("x")}, &wal.NameError{}, &holeError{},
		&wal.RemovedError{Segment: wal.Segment{Timeline: 1, Size: wal.MinSegmentSize}}, &pgconn.PgError{Code: "42704", Message: "replication slot \"x\" does not exist"},
		&backup.PromotedError{}, &backup.VersionError{}, &backup.DirectoryError{}, &backup.ClockError{}, &backup.MissingWALError{},
		&backup.SettingError{}, &backup.PrivilegeError{}, &backup.SessionLostError{Err: errors.New("x")}, &backup.OtherServerError{}, &backup.ArchiveError{}, &noBackupError{fs.ErrNotExist},
		&restore.NotEmptyError{}, &restore.RunningError{}, &restore.ForeignError{}, &restore.RepositoryError{}, &restore.TablespaceError{}, &restore.WALDirectoryError{}, &restore.DatabaseError{}, &restore.UnreachableError{},
		&drill.BinaryError{}, &drill.UserError{}, &drill.BusyError{}, &drill.ServerError{}, &drill.ElsewhereError{}, &drill.DamageError{}, &salvage.TableError{},
		&drill.CheckError{Failed: []drill.CheckResult{{Problems: []string{"x"}}}},
		&pgconn.PgError{Code: "42501"}, &pgconn.ConnectError{}, syscall.ECONNREFUSED, &net.DNSError{}, &pgconn.ParseConfigError{},
		retention.ErrStale, &retention.ClockError{}, backup.ErrDecrypts, &backup.CopyError{}, &problemsError{n: 2},
		&repo.MarkerError{}, &backup.UnreadableError{Err: &repo.CorruptError{Err: &crypto.IdentityError{}}}, &destinationError{"", repo.ErrEncrypted},
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, fs.ErrPermission, os.ErrDeadlineExceeded,
	} {
		hint := hintFor(fmt.Errorf("b: %w", errors.Join(errors.New("a"), err)))
		require.NotEmpty(t, hint, "%T %v", err, err)
		require.NotContains(t, hint, "\n")
		require.NotContains(t, seen, hint, "%T has the hint of %T", err, seen[hint])
		seen[hint] = err
	}
	require.Len(t, seen, len(hints)-1, "a hint without a test; that of buckets is tried by TestBuckets")
	require.Empty(t, hintFor(errors.New("something else")))
}

func TestReportIsOneLineEach(t *testing.T) {
	var b bytes.Buffer
	err := errors.Join(errors.New("one\r\ntwo"), repo.ErrNoRepository)
	require.Equal(t, err, report(&b, err))
	lines := strings.Split(b.String(), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, "pgcairn: one; two; no pgcairn repository here", lines[0])
	require.True(t, strings.HasPrefix(lines[1], "hint: "))
	b.Reset()
	require.NoError(t, report(&b, nil))
	require.Empty(t, b.String())
}
