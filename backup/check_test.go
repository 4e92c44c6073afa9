package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

func TestCheckFindsTheRoadOpen(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << 20, Conf: map[string]string{
			"archive_mode": "on", "archive_command": "true",
		}})
		store, key := repotest.Mem(nil), newKey(t)
		r := openChecked(t, store, key, true)
		pushArchived(t, c, r)
		var told []backup.CheckStep
		report, err := backup.Check(t.Context(), r, c.DSN("postgres"), &backup.CheckOptions{
			SQL: true, MustRead: true, Progress: func(s backup.CheckStep) { told = append(told, s) },
		})
		require.NoError(t, err)
		require.True(t, report.OK)
		require.Equal(t, told, report.Steps)
		require.Equal(t, []string{"connect ok", "role ok", "settings ok", "store ok", "objects ok", "cluster ok", "archive ok"}, verdicts(report))
		require.Contains(t, report.Steps[1].Detail, "list and read files")
		require.Contains(t, report.Steps[4].Detail, "read back")
		require.Contains(t, report.Steps[6].Detail, "read back")

		// Again, on a host that holds recipients only, now that the repository is the cluster's.
		w := openChecked(t, store, key, false)
		report, err = backup.Check(t.Context(), w, c.DSN("postgres"), nil)
		require.NoError(t, err)
		require.True(t, report.OK)
		require.Contains(t, report.Steps[4].Detail, "this host cannot read it")
		require.Contains(t, report.Steps[4].Detail, key.Recipient().String())
		require.Contains(t, report.Steps[5].Detail, "belongs to system identifier")
		report, err = backup.Check(t.Context(), w, c.DSN("postgres"), &backup.CheckOptions{MustRead: true})
		var identity *crypto.IdentityError
		require.ErrorAs(t, err, &identity)
		require.Equal(t, "objects FAILED", verdicts(report)[4])

		// By a role that may replicate, and switch to a new segment, which only a check does.
		c.Exec(t, `create role replicator login replication`, `grant execute on function pg_switch_wal() to replicator`)
		report, err = backup.Check(t.Context(), r, replicator(c), &backup.CheckOptions{Replication: true})
		require.NoError(t, err)
		require.Contains(t, report.Steps[1].Detail, `"replicator" may replicate`)
		_, err = backup.Check(t.Context(), r, replicator(c), nil)
		var denied *backup.PrivilegeError
		require.ErrorAs(t, err, &denied)
		c.Exec(t, `alter role replicator noreplication`)
		report, err = backup.Check(t.Context(), r, replicator(c), &backup.CheckOptions{Replication: true})
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "role FAILED", verdicts(report)[1])

		for info, err := range store.List(t.Context(), "probe/") {
			require.NoError(t, err)
			require.Fail(t, "a probe is left", info.Key)
		}
		require.Zero(t, pgtest.Value[int](t, c, `select count(*)::int from pg_stat_activity where query like '%pgcairn%' and pid <> pg_backend_pid()`))
	})
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"archive_mode": "on", "archive_command": "true"}})
	good.Exec(t, `create role weak login`, `create role backer login`,
		`grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to backer`)
	failing := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"archive_mode": "on", "archive_command": "false"}})
	unset := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"archive_mode": "on"}})
	off := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"archive_mode": "off", "wal_level": "minimal", "max_wal_senders": "0"}})
	readOnly := repotest.Fault{Op: repotest.OpCommit, Do: repotest.Fail(os.ErrPermission)}

	for _, c := range []struct {
		name     string
		conn     string
		fault    repotest.Fault // none when Op is empty
		sql      bool
		claim    uint64 // whose the repository is
		wait     time.Duration
		verdicts string
		as       any // pointer to the type of the error
		text     string
		is       error
	}{
		{
			name: "no server", conn: "host=/nonexistent", as: new(*pgconn.ConnectError),
			verdicts: "connect FAILED, role skipped, settings skipped, store ok, objects ok, cluster skipped, archive skipped",
		},
		{
			name: "a role without privileges", conn: good.DSN("postgres") + " user=weak", as: new(*backup.PrivilegeError),
			text:     `GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO "weak"`,
			verdicts: "connect ok, role FAILED, settings ok, store ok, objects ok, cluster ok, archive skipped",
		},
		{
			name: "a role that may not read files", conn: good.DSN("postgres") + " user=backer", sql: true, as: new(*backup.PrivilegeError),
			text: `GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), ` +
				`pg_read_binary_file(text, bigint, bigint, boolean) TO "backer"`, //nolint:dupword // two arguments
			verdicts: "connect ok, role FAILED, settings ok, store ok, objects ok, cluster ok, archive skipped",
		},
		{
			name: "a role that may not switch WAL", conn: good.DSN("postgres") + " user=backer", as: new(*backup.PrivilegeError),
			text:     `GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "backer"`,
			verdicts: "connect ok, role ok, settings ok, store ok, objects ok, cluster ok, archive FAILED",
		},
		{
			name: "no archive_command", conn: unset.DSN("postgres"), as: new(*backup.SettingError),
			verdicts: "connect ok, role ok, settings FAILED, store ok, objects ok, cluster ok, archive skipped",
		},
		{
			name: "archiving off", conn: off.DSN("postgres"), as: new(*backup.SettingError),
			verdicts: "connect ok, role ok, settings FAILED, store ok, objects ok, cluster ok, archive skipped",
		},
		{
			name: "a store that refuses", conn: good.DSN("postgres"), fault: readOnly, is: os.ErrPermission,
			verdicts: "connect ok, role ok, settings ok, store FAILED, objects skipped, cluster skipped, archive skipped",
		},
		{
			name: "another cluster's repository", conn: good.DSN("postgres"), claim: 7, as: new(*wal.ForeignError),
			verdicts: "connect ok, role ok, settings ok, store ok, objects ok, cluster FAILED, archive skipped",
		},
		{
			name: "an archiver that fails", conn: failing.DSN("postgres"), wait: time.Minute, as: new(*backup.ArchiveError),
			verdicts: "connect ok, role ok, settings ok, store ok, objects ok, cluster ok, archive FAILED",
		},
		{
			name: "an archiver that archives elsewhere", conn: good.DSN("postgres"), wait: time.Millisecond, as: new(*backup.ArchiveError),
			verdicts: "connect ok, role ok, settings ok, store ok, objects ok, cluster ok, archive FAILED",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mem := repotest.Mem(nil)
			r := openChecked(t, mem, nil, true)
			if c.claim != 0 {
				a, err := wal.NewArchive(r, nil)
				require.NoError(t, err)
				require.NoError(t, a.Claim(t.Context(), "x", wal.System{ID: c.claim, SegmentSize: wal.DefaultSegmentSize}))
			}
			if c.fault.Op != "" {
				var err error
				r, err = repo.Open(t.Context(), repotest.Faulty(mem, c.fault), nil)
				require.NoError(t, err)
			}
			report, err := backup.Check(t.Context(), r, c.conn, &backup.CheckOptions{Wait: c.wait, SQL: c.sql})
			require.False(t, report.OK)
			require.Equal(t, c.verdicts, strings.Join(verdicts(report), ", "))
			if c.as != nil {
				require.ErrorAs(t, err, c.as)
				require.ErrorContains(t, err, c.text)
			} else {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
}

func TestCheckConnectsAsTold(t *testing.T) {
	t.Parallel()
	r := openChecked(t, repotest.Mem(nil), nil, true)
	refused := errors.New("no credentials today")
	_, err := backup.Check(t.Context(), r, "", &backup.CheckOptions{
		Connect: func(context.Context) (*pgx.Conn, error) { return nil, refused },
	})
	require.ErrorIs(t, err, refused)

	report, err := backup.Check(t.Context(), r, "port=many", nil)
	var parse *pgconn.ParseConfigError
	require.ErrorAs(t, err, &parse)
	require.NotNil(t, report)
}

func TestCheckReportJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(&backup.CheckReport{Steps: []backup.CheckStep{
		{Name: "connect", OK: true, Detail: "fine", Took: 1500 * time.Millisecond}, {Name: "role", Skipped: true, Err: errors.New("x")},
	}})
	require.NoError(t, err)
	require.JSONEq(t, `{"ok": false, "steps": [
		{"name": "connect", "ok": true, "skipped": false, "detail": "fine", "duration_seconds": 1.5},
		{"name": "role", "ok": false, "skipped": true, "detail": "", "duration_seconds": 0}]}`, string(b))
}

// verdicts tells how each step ended.
func verdicts(r *backup.CheckReport) []string {
	var out []string
	for _, s := range r.Steps {
		switch {
		case s.OK:
			out = append(out, s.Name+" ok")
		case s.Skipped:
			out = append(out, s.Name+" skipped")
		default:
			out = append(out, s.Name+" FAILED")
		}
	}
	return out
}

func newKey(t *testing.T) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return key
}

// openChecked makes or opens a repository: encrypted when there is a key, which a host that reads holds whole.
func openChecked(t *testing.T, s repo.Store, key *age.X25519Identity, reads bool) *repo.Repo {
	t.Helper()
	o := &repo.Options{}
	if key != nil {
		var from []age.Identity
		if reads {
			from = append(from, key)
		}
		cipher, err := crypto.New([]age.Recipient{key.Recipient()}, from)
		require.NoError(t, err)
		o.Cipher = cipher
	}
	r, err := repo.Init(t.Context(), s, o)
	require.NoError(t, err)
	return r
}

// pushArchived stands in for an archive_command: what the server takes for archived is pushed, until the test ends.
func pushArchived(t *testing.T, c *pgtest.Cluster, r *repo.Repo) {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		pushed := map[string]bool{}
		for ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			done, _ := filepath.Glob(filepath.Join(c.Data, "pg_wal", "archive_status", "*.done"))
			for _, d := range done {
				name := strings.TrimSuffix(filepath.Base(d), ".done")
				if !pushed[name] {
					pushed[name] = a.Push(ctx, filepath.Join(c.Data, "pg_wal", name)) == nil
				}
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}
