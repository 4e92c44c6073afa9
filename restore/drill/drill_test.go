package drill_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestDrill drills an encrypted backup of a cluster with a tablespace, whose libraries, settings and configuration files
// are not for a copy, on every major version.
func TestDrill(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		s := newCluster(t, &pgtest.Options{Major: major, Conf: map[string]string{
			"max_connections": "150", "max_prepared_transactions": "5", // more than the defaults
		}}, true)
		s.c.Exec(t, `create tablespace aside location '`+pgtest.Dir(t)+`'`,
			`create table elsewhere tablespace aside as select i from generate_series(1, 1000) i`)
		addConf(t, s.c, `shared_preload_libraries = 'no_such_library'`, `external_pid_file = '/nonexistent/pid'`, `ssl = on`,
			`listen_addresses = '*'`, `synchronous_standby_names = 'nobody'`, `unix_socket_directories = '/nonexistent'`,
			`hba_file = '/nonexistent/hba'`, `data_directory = '/nonexistent/data'`, `log_min_messages = panic`, `logging_collector = on`)
		s.backUp(t)
		s.c.ExecIn(t, "template1", `begin; create table prepared (); prepare transaction 'open'`)
		s.c.Exec(t, `insert into orders select i, md5(i::text) from generate_series(201, 300) i`,
			`alter database postgres set default_transaction_read_only = on`)
		s.archive(t)

		o := s.options(t)
		o.Amcheck = drill.HeapAllIndexed
		var phases []drill.Phase
		o.Began = func(p drill.Phase) { phases = append(phases, p) }
		o.Checks = []drill.Check{
			{SQL: `select count(*), null, max(note) filter (where id = 300) from orders`, Want: [][]string{{"300", drill.Null, "94f6d7e04a4d452035300f18b984988c"}}},
			{SQL: `select count(*) = 1000 from elsewhere`},
			{SQL: `select * from orders where id > 300`, Want: [][]string{}},
			{SQL: `create table by_a_check ()`},
			{Name: "settings", SQL: `select current_setting('archive_mode'), current_setting('listen_addresses'),
				current_setting('max_connections'), current_setting('shared_preload_libraries')`, Want: [][]string{{"off", "", "150", ""}}},
			{Name: "by itself", Func: func(ctx context.Context, conn *pgx.Conn) error {
				var there bool
				if err := conn.QueryRow(ctx, `select to_regclass('by_a_check') is not null`).Scan(&there); err != nil || !there {
					return errors.Join(err, errors.New("what a check has done is not there"))
				}
				return nil
			}},
			{SQL: `select count(*) = 1 from pg_prepared_xacts`},
		}
		r, err := s.run(t, restore.Latest(), o)
		require.NoError(t, err)
		require.Equal(t, []drill.Phase{drill.PhasePlan, drill.PhaseRestore, drill.PhaseRecovery, drill.PhaseCheck}, phases)
		require.Equal(t, s.m.ID, r.Plan.Backup.ID)
		require.Greater(t, r.RecoveredTo.LSN, s.m.StopLSN)
		require.Positive(t, r.RestoredBytes)
		require.Positive(t, r.RestoreTook)
		require.Positive(t, r.RecoveryTook)
		require.Len(t, r.Checks, 7+2, "amcheck checks postgres and template1")
		for _, c := range r.Checks {
			require.True(t, c.OK, c.Name)
		}
		require.Greater(t, r.Checks[8].Rows, int64(50), "indexes")
		require.NotEmpty(t, r.Log)
		require.NotContains(t, strings.Join(r.Log, "\n"), "starting up", "it was not asked before it could answer")
		requireJSON(t, r)
	})
}

// addConf adds to the configuration file, which the server does not read any more.
func addConf(t *testing.T, c *pgtest.Cluster, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.Data, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	for _, line := range lines {
		_, err := f.WriteString(line + "\n")
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// requireJSON requires the members that scripts rely on.
func requireJSON(t *testing.T, r *drill.Report) {
	t.Helper()
	b, err := json.Marshal(r)
	require.NoError(t, err)
	var doc struct {
		Plan struct {
			Backup    backup.ID `json:"backup"`
			Reachable bool      `json:"reachable"`
		} `json:"plan"`
		RecoveredTo map[string]string `json:"recovered_to"`
		Checks      []map[string]any  `json:"checks"`
		Restore     *float64          `json:"restore_seconds"`
		Recovery    *float64          `json:"recovery_seconds"`
		OK          bool              `json:"ok"`
	}
	require.NoError(t, json.Unmarshal(b, &doc))
	require.Equal(t, r.Plan.Backup.ID, doc.Plan.Backup)
	require.True(t, doc.Plan.Reachable)
	require.Equal(t, r.RecoveredTo.LSN.String(), doc.RecoveredTo["lsn"])
	require.NotEmpty(t, doc.RecoveredTo["time"])
	require.Equal(t, r.Checks[0].SQL, doc.Checks[0]["sql"])
	require.EqualValues(t, 1, doc.Checks[0]["rows"])
	require.Equal(t, true, doc.Checks[0]["ok"])
	require.InDelta(t, r.RestoreTook.Seconds(), *doc.Restore, 1e-6)
	require.InDelta(t, r.RecoveryTook.Seconds(), *doc.Recovery, 1e-6)
	require.True(t, doc.OK)
}
