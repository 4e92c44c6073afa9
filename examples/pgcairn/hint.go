package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/restore/salvage"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

// hints says what can be done about an error. The first that matches counts.
var hints = []struct {
	matches func(error) bool
	hint    string
}{
	{as[*timeoutError], "is the repository slow or out of reach? nothing was acknowledged; --timeout allows more time"},
	{is(context.DeadlineExceeded), "is the repository, or the server, slow or out of reach? try again"},

	{is(repo.ErrNoRepository), "check --repo, and that its file system is mounted; a new repository is made by: pgcairn init"},
	{isEncryptedDestination, "give --dest-recipient, to write there"},
	{is(repo.ErrEncrypted), "to write, give --recipient or PGCAIRN_RECIPIENTS; to read, --identity or PGCAIRN_IDENTITY"},
	{is(repo.ErrNotEncrypted), "leave out --recipient and --identity (PGCAIRN_RECIPIENTS, PGCAIRN_IDENTITY), or make another repository, with them"},
	{is(repo.ErrUnsafeStore), "choose a service that honours conditional writes (If-None-Match), or a directory"},
	{is(repo.ErrLeaseLost), "did this host sleep, or is its clock wrong? try again"},
	{as[*repo.FormatError], "use a newer version of pgcairn"},
	{isRotating, "keys are being rotated: wait for the end of that; where it was killed, for two minutes"},
	{as[*repo.LeaseError], "a backup, or a retention, runs: wait for its end; one that was killed frees its place within two minutes"},
	{is(retention.ErrStale), "run it again"},
	{as[*retention.ClockError], "by a clock that is ahead everything is older than it is: have NTP set it"},
	{as[*repo.HardLinkError], "keep the repository on a local file system such as ext4 or xfs, on NFS, or in a bucket"},

	{as[*repo.MarkerError], "nothing was changed; in a versioned bucket, undelete it"},
	{as[*backup.UnreadableError], "it is damaged, gone, or for another identity: bring it back from a version or a copy, or give that by --identity; unpin gives a pinned one up, and expire --give-up what cannot be read"},

	{as[*repo.LockoutError], "nothing was changed; give the identity of one of the new recipients by --identity, beside one that opens the keys now"},
	{as[*repo.RotationError], "pgcairn key list tells whose identity it takes; one that is lost leaves what was encrypted to these keys unread"},

	{is(crypto.ErrNoRecipients), "give --recipient or PGCAIRN_RECIPIENTS"},
	{as[*crypto.IdentityError], "give the file of that identity by --identity or PGCAIRN_IDENTITY; hosts that only back up need none"},

	{isEarlier, "stop that server, if it was upgraded; if it is to go on in its successor's place, pgcairn backup --upgraded-from, with the system identifier that the repository belongs to"},
	{as[*wal.ForeignError], "use a repository of its own for each cluster, another --repo or another prefix= of a bucket; after pg_upgrade: pgcairn backup --upgraded-from, with the system identifier that the repository belongs to"},
	{as[*wal.AmbiguousError], "give --system-id, or let the destination be in the pg_wal of the server's data directory"},
	{as[*wal.ConflictError], "make sure that only one server archives to this repository: no clone, no promoted standby beside its old primary"},
	{as[*wal.SegmentError], "is the file whole, and from the pg_wal of this cluster? archive_command should pass %p"},
	{as[*wal.RemovedError], "use --slot from now on; to go on after the gap, give --allow-gap and take a backup"},
	{isSlotMissing, "give --create-slot, or the name of a physical slot that exists"},
	{as[*socketError], "is the program that serves PGCAIRN_SOCKET running, as a user that shares the socket?"},
	{as[*wal.NameError], "use: archive_command = 'pgcairn wal push %p' and restore_command = 'pgcairn wal fetch %f %p'"},

	{as[*holeError], "has retention dropped it meanwhile? pgcairn plan tells what can be recovered now; restore --wal staged brings all WAL at once; a standby that streams it is to have a restore_command without --needs"},

	{as[*backup.PromotedError], "back up again, which takes a full backup of the new timeline; nothing was committed"},
	{as[*backup.VersionError], "use a version of pgcairn that supports this server"},
	{as[*backup.DirectoryError], "let --pgdata be what SHOW data_directory says on the server of --dsn, on this host"},
	{as[*backup.ClockError], "set the clock, for instance by NTP"},
	{as[*backup.MissingWALError], "set archive_command to pgcairn wal push, and back up again"},
	{as[*backup.SettingError], "change it in postgresql.conf or by ALTER SYSTEM"},
	{as[*backup.PrivilegeError], "let a superuser execute that GRANT in the database of --dsn, or connect as another role"},
	{as[*backup.SessionLostError], "was the server restarted, or the session terminated? its log says so; nothing was committed: back up again"},
	{as[*backup.OtherServerError], "let --dsn lead to one server, with one host, and back up again"},
	{as[*backup.ArchiveError], "look at the server's log for what archive_command printed, and whether its --repo is this one"},

	{is(backup.ErrDecrypts), "give --dest-recipient, for a repository made by: pgcairn init --recipient; or consent by --dest-unencrypted"},
	{as[*backup.CopyError], "all else was copied; what is damaged here may be whole in another copy: keep it, and back up again"},

	{as[*noBackupError], "pgcairn list shows the backups there are"},
	{as[*drill.BinaryError], "install that major version, or give the directory of its programs by --pgbin"},
	{as[*drill.UserError], "give a user that can reach the scratch directory, such as postgres, by --os-user; or run pgcairn as that user"},
	{as[*drill.BusyError], "wait for the end of that drill, or give another directory by --scratch"},
	{as[*drill.ServerError], "the end of the server's log is in the report"},
	{as[*drill.ElsewhereError], "pgcairn plan and pgcairn windows tell what can be recovered; the end of the server's log is in the report"},
	{as[*drill.DamageError], "the backup, or the WAL, lacks these pages: pgcairn list shows other backups, for --backup"},
	{as[*salvage.TableError], "give names as they are at the target, which pgcairn wal search helps to find"},
	{as[*problemsError], "the report tells what each costs; keep copies of what is damaged, and take a new backup"},
	{as[*drill.CheckError], "the report tells of every check"},

	{as[*restore.NotEmptyError], "choose another directory, or empty it; over a data directory of the same cluster: --delta"},
	{as[*restore.RunningError], "stop it (pg_ctl stop -D), and restore again; nothing was changed"},
	{as[*restore.ForeignError], "is that the right directory? with --overwrite nothing of what is in it is left"},
	{as[*restore.RepositoryError], "a restore over a directory leaves nothing else in it: move the repository out of there"},
	{as[*restore.TablespaceError], "map each tablespace of the backup by --tablespace NAME=DIR, or give --tablespaces-in-place"},
	{as[*restore.WALDirectoryError], "let --waldir be a directory outside of the data directory and of tablespaces"},
	{as[*restore.DatabaseError], "give the name that the database had when the backup was taken; restore without --only-database restores all"},
	{as[*restore.UnreachableError], "pgcairn list and pgcairn wal list show what there is"},

	{isPrivilege, "connect as a role that may do so: a superuser, or one with EXECUTE on the backup functions"},
	{as[*pgconn.ConnectError], "is the server running, and do --dsn or PGHOST, PGPORT and PGUSER point to it?"},
	{isRefused, "is that the bucket's name, and do the credentials permit listing, reading and creating objects?"},
	{is(os.ErrDeadlineExceeded), "is the repository slow or out of reach? try again; --retry-for allows more time"},
	{is(syscall.ECONNREFUSED), "is the service of --repo running, and its address right?"},
	{as[*net.DNSError], "is the host's name in --repo right, and the network up?"},
	{as[*pgconn.ParseConfigError], "a DSN looks like 'host=/run/postgresql user=postgres' or postgresql://user@host/database"},

	{is(syscall.ENOSPC), "the disk is full: make room, and try again"},
	{is(syscall.EDQUOT), "the quota is used up: make room, and try again"},
	{is(syscall.EROFS), "the file system is read-only: mount it writable, or choose another place"},
	{is(fs.ErrPermission), "run pgcairn as the user who owns the files, the server's own (postgres)"},
	{as[*repo.CorruptError], "the object is damaged: keep a copy of it, and recover from another backup meanwhile"},
}

// hintFor returns what can be done about an error, or nothing.
func hintFor(err error) string {
	for _, h := range hints {
		if h.matches(err) {
			return h.hint
		}
	}
	return ""
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// isEncryptedDestination matches a repository to copy to that is encrypted, where nothing says to whom.
func isEncryptedDestination(err error) bool {
	return as[*destinationError](err) && errors.Is(err, repo.ErrEncrypted)
}

// isEarlier matches what is of a cluster that the repository has belonged to before.
func isEarlier(err error) bool {
	var e *wal.ForeignError
	return errors.As(err, &e) && e.Earlier
}

// isRotating matches the lease of those who rotate keys.
func isRotating(err error) bool {
	var e *repo.LeaseError
	return errors.As(err, &e) && e.Name == "keys"
}

// isSlotMissing matches PostgreSQL's undefined_object, which for a walsender is the slot.
func isSlotMissing(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42704" && strings.Contains(e.Message, "replication slot")
}

// isPrivilege matches PostgreSQL's insufficient_privilege.
func isPrivilege(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42501"
}
