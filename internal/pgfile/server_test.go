package pgfile_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// fill makes relations of every kind, in a tablespace too, with all their forks.
func fill(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		"CREATE TABLESPACE away LOCATION '"+pgtest.Dir(t)+"'",
		"CREATE TABLE plain (id int PRIMARY KEY, note text)",
		"INSERT INTO plain SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 20000) i",
		"CREATE TABLE toasted (note text)",
		"ALTER TABLE toasted ALTER note SET STORAGE EXTERNAL",
		"INSERT INTO toasted SELECT repeat(md5(i::text), 300) FROM generate_series(1, 50) i",
		"CREATE TABLE moved TABLESPACE away AS SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged AS SELECT * FROM plain",
		"CREATE INDEX ON unlogged USING hash (note)",
		"CREATE SEQUENCE counter",
		"DELETE FROM plain WHERE id % 10 = 0",
		"VACUUM",
		"CHECKPOINT",
	)
}

func TestServersFiles(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << (20 + major%3), Conf: map[string]string{
			"autovacuum": "off", "max_connections": "41", "max_worker_processes": "42", "max_wal_senders": "43",
			"max_prepared_transactions": "44", "max_locks_per_transaction": "45",
		}})
		fill(t, c)
		requireControl(t, c)
		requireLabel(t, c)
		keepSeed(t, "path", fmt.Sprintf("pg%d", major), somePaths(t, c.Data))
		c.Stop(t)
		control, content, err := pgfile.ReadControl(c.Data)
		require.NoError(t, err)
		require.EqualValues(t, 1, control.State, "DB_SHUTDOWNED")
		keepSeed(t, "control", fmt.Sprintf("pg%d", major), content[:512])
		requirePages(t, c.Data)
	})
}

func TestControlOfAStandby(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off"}})
		s := c.Follow(t, nil)
		c.Exec(t, "CREATE TABLE t AS SELECT 1", "CHECKPOINT")
		s.CatchUp(t, c)
		s.Exec(t, "CHECKPOINT")
		requireControl(t, s)
	})
}

// requireControl compares pg_control with what the server says is in it.
func requireControl(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	got, _, err := pgfile.ReadControl(c.Data)
	require.NoError(t, err)
	var want pgfile.Control
	require.NoError(t, c.Connect(t).QueryRow(t.Context(), `
		SELECT s.system_identifier, s.pg_control_version, s.catalog_version_no, c.redo_lsn - '0/0'::pg_lsn, c.timeline_id,
			current_setting('max_connections')::int, current_setting('max_worker_processes')::int,
			current_setting('max_wal_senders')::int, current_setting('max_prepared_transactions')::int,
			current_setting('max_locks_per_transaction')::int, i.database_block_size, i.blocks_per_segment, i.bytes_per_wal_segment,
			i.data_page_checksum_version, r.min_recovery_end_lsn - '0/0'::pg_lsn, r.min_recovery_end_timeline
		FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_init() i, pg_control_recovery() r`).Scan(
		&want.SystemID, &want.ControlVersion, &want.CatalogVersion, &want.CheckpointRedo, &want.Timeline,
		&want.Resources.MaxConnections, &want.Resources.MaxWorkerProcesses, &want.Resources.MaxWALSenders,
		&want.Resources.MaxPreparedTransactions, &want.Resources.MaxLocksPerTransaction, &want.PageSize, &want.RelSegPages, &want.WALSegmentSize, &want.ChecksumVersion,
		&want.MinRecovery, &want.MinTimeline))
	want.State = 6 // DB_IN_PRODUCTION
	if c.InRecovery(t) {
		want.State = pgfile.InArchiveRecovery
	}
	require.Equal(t, want, got)
	require.Equal(t, c.InRecovery(t), got.MinRecovery != 0)
	require.Equal(t, c.InRecovery(t), got.MinTimeline != 0)
	require.EqualValues(t, 1, got.ChecksumVersion)
	require.NotZero(t, got.CheckpointRedo)
}

// requireLabel compares a backup_label with what the server said when the backup started.
func requireLabel(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	conn := c.Connect(t)
	start, stop, from := "pg_backup_start('a label', true)", "pg_backup_stop(false)", "primary"
	if c.Major < 15 {
		start, stop, from = "pg_start_backup('a label', true, false)", "pg_stop_backup(false, false)", "primary"
	}
	if c.Major < 14 {
		from = "master"
	}
	var lsn, segment, checkpoint, label string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT "+start+"::text").Scan(&lsn))
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_walfile_name($1::text::pg_lsn), checkpoint_lsn::text FROM pg_control_checkpoint()",
		lsn).Scan(&segment, &checkpoint))
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT labelfile FROM "+stop, pgx.QueryExecModeSimpleProtocol).Scan(&label))
	got, err := pgfile.ParseLabel(label)
	require.NoError(t, err)
	require.Equal(t, pgfile.Label{StartLSN: lsn, StartSegment: segment, Checkpoint: checkpoint, From: from, Timeline: 1}, got)
	keepSeed(t, "label", fmt.Sprintf("pg%d", c.Major), []byte(label))
}

// relationFiles calls f with each file of a relation and its path below a data directory.
func relationFiles(t *testing.T, pgdata string, f func(path string, r pgfile.Relation, content []byte)) {
	t.Helper()
	roots := []string{"global", "base"}
	links, err := os.ReadDir(filepath.Join(pgdata, "pg_tblspc"))
	require.NoError(t, err)
	for _, link := range links {
		require.True(t, pgfile.ValidOID(link.Name()))
		roots = append(roots, "pg_tblspc/"+link.Name()+"/.")
	}
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(pgdata, root)+"/", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			below, err := filepath.Rel(pgdata, path)
			if err != nil {
				return err
			}
			r, ok := pgfile.ParseRelation(below)
			if !ok {
				return nil
			}
			content, err := os.ReadFile(path)
			f(below, r, content)
			return err
		})
		require.NoError(t, err)
	}
}

// requirePages checks every page of every relation, and that damage is noticed.
func requirePages(t *testing.T, pgdata string) {
	t.Helper()
	const size = 8192
	forks := map[string]int{}
	away, flipped, missed := 0, 0, 0
	relationFiles(t, pgdata, func(path string, r pgfile.Relation, content []byte) {
		require.Zero(t, len(content)%size, path)
		require.Zero(t, r.Segment, path)
		forks[r.Fork] += len(content) / size
		if strings.HasPrefix(path, "pg_tblspc/") {
			away++
		}
		block := uint32(0)
		for page := range slices.Chunk(content, size) {
			require.True(t, pgfile.PageOK(page, block), "%s, block %d", path, block)
			if pgfile.Zero(page) {
				require.True(t, pgfile.PageOK(page, block+1))
			} else {
				require.False(t, pgfile.PageOK(page, block+1), "%s, block %d elsewhere", path, block)
			}
			if block%37 == 0 {
				bit := (int(r.Number)*8191 + int(block)*127) % (8 * size)
				page[bit/8] ^= 1 << (bit % 8)
				flipped++
				if pgfile.PageOK(page, block) {
					missed++
				}
			}
			block++
		}
	})
	require.Greater(t, forks["main"], 1000)
	for _, fork := range []string{"fsm", "vm", "init"} {
		require.NotZero(t, forks[fork], fork)
	}
	require.NotZero(t, away)
	require.Greater(t, flipped, 500)
	require.LessOrEqual(t, missed, 1, "a checksum of 16 bits misses one of 65,535 by chance")
}

func TestPagesAgreeWithPgChecksums(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Distro: true, Conf: map[string]string{"autovacuum": "off"}})
	fill(t, c)
	c.Stop(t)
	pgtest.PgChecksums(t, c.Data)

	// Damage a page here and there.
	n := 0
	relationFiles(t, c.Data, func(path string, _ pgfile.Relation, content []byte) {
		if n++; n%41 != 0 || len(content) == 0 {
			return
		}
		at := n * 997 % len(content)
		content[at] ^= 4
		require.NoError(t, os.WriteFile(filepath.Join(c.Data, path), content, 0o600))
	})
	files, blocks, bad := 0, 0, 0
	relationFiles(t, c.Data, func(_ string, _ pgfile.Relation, content []byte) {
		files++
		block := uint32(0)
		for page := range slices.Chunk(content, 8192) {
			blocks++
			if !pgfile.PageOK(page, block) {
				bad++
			}
			block++
		}
	})
	require.Greater(t, bad, 3)

	out, err := pgtest.Command(t, pgtest.DistroBin(t, "pg_checksums"), "--check", "--pgdata="+c.Data).CombinedOutput()
	require.Error(t, err)
	require.Regexp(t, `Files scanned:\s+`+strconv.Itoa(files)+`\n`, string(out))
	require.Regexp(t, `Blocks scanned:\s+`+strconv.Itoa(blocks)+`\n`, string(out))
	require.Regexp(t, `Bad checksums:\s+`+strconv.Itoa(bad)+`\n`, string(out))
}

// somePaths lists a data directory, but few of the many catalogs.
func somePaths(t *testing.T, pgdata string) []byte {
	t.Helper()
	var list strings.Builder
	catalogs := 0
	err := filepath.WalkDir(pgdata, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(pgdata, path)
		if err != nil {
			return err
		}
		if r, ok := pgfile.ParseRelation(below); ok && r.Number < 16384 {
			if catalogs++; catalogs%31 != 0 {
				return nil
			}
		}
		list.WriteString(below + "\n")
		return nil
	})
	require.NoError(t, err)
	return []byte(list.String())
}

func TestDatabaseWithoutChecksums(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{NoChecksums: true})
	c.Stop(t)
	control, _, err := pgfile.ReadControl(c.Data)
	require.NoError(t, err)
	require.Zero(t, control.ChecksumVersion)
	// Its pages have none: the field is zero, which no checksum is.
	seen := false
	relationFiles(t, c.Data, func(path string, r pgfile.Relation, content []byte) {
		if r.Fork == "main" && len(content) > 0 {
			seen = true
			require.Zero(t, binary.LittleEndian.Uint16(content[8:]), path)
		}
	})
	require.True(t, seen)
}
