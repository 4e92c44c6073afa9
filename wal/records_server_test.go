package wal_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
)

// newMixed makes a server whose WAL holds records of nearly every kind, in files of pg_wal that it keeps.
func newMixed(t *testing.T, major int, conf map[string]string) *pgtest.Cluster {
	t.Helper()
	compression := map[int]string{13: "on", 14: "on", 15: "pglz", 16: "pglz", 17: "pglz", 18: "pglz"}
	settings := map[string]string{
		"wal_keep_size": "4GB", "max_prepared_transactions": "5", "track_commit_timestamp": "on", "wal_level": "logical",
		"wal_compression": compression[major], "autovacuum": "off", "wal_init_zero": "off", "full_page_writes": "on",
	}
	for k, v := range conf {
		settings[k] = v
	}
	return pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: segmentSizes[major] << 20, Conf: settings})
}

// mix does a little of everything that leaves a record.
func mix(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		"CREATE TABLE t (id serial PRIMARY KEY, a int, b text, c int4range, d point)",
		"CREATE INDEX ON t USING hash (a)", "CREATE INDEX ON t USING gin (string_to_array(b, ' '))", "CREATE INDEX ON t USING gist (c)",
		"CREATE INDEX ON t USING brin (id)", "CREATE INDEX ON t USING spgist (d)", "CREATE INDEX ON t (b)",
		"INSERT INTO t (a, b, c, d) SELECT i, 'words ' || i || ' ' || md5(i::text), int4range(i, i + 10), point(i, i % 7) FROM generate_series(1, 5000) i",
		"CHECKPOINT",
		"UPDATE t SET a = a + 1 WHERE id % 3 = 0", "DELETE FROM t WHERE id % 5 = 0", "VACUUM t", "ANALYZE t",
		"DELETE FROM t WHERE id > 2000", "VACUUM t", // cuts its end off
		"CREATE TABLE gone AS SELECT g FROM generate_series(1, 1000) g", "TRUNCATE gone", "DROP TABLE gone",
		"CREATE SEQUENCE s", "SELECT nextval('s') FROM generate_series(1, 100)",
		"SELECT pg_create_restore_point('before it all')",
		"SELECT pg_logical_emit_message(true, 'prefix', repeat('long ', 20000))", // longer than some pages
		"CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t", "REFRESH MATERIALIZED VIEW m",
		"SELECT id FROM t WHERE id < 20 FOR UPDATE",
		"CREATE DATABASE other", "DROP DATABASE other",
	)
	conn := c.Connect(t)
	run := func(sql ...string) {
		for _, q := range sql {
			_, err := conn.Exec(t.Context(), q)
			require.NoError(t, err, q)
		}
	}
	run("BEGIN", "INSERT INTO t (a) VALUES (1)", "SAVEPOINT a", "INSERT INTO t (a) VALUES (2)", "SAVEPOINT b",
		"CREATE TABLE sub (x int)", "RELEASE b", "SAVEPOINT c", "INSERT INTO t (a) VALUES (3)", "ROLLBACK TO c", "COMMIT")
	run("BEGIN", "CREATE TABLE never (x int)", "INSERT INTO never VALUES (1)", "ROLLBACK")
	run("BEGIN", "SAVEPOINT a", "CREATE TABLE prepared (x int)", "DROP TABLE sub", "PREPARE TRANSACTION 'one thing'", "COMMIT PREPARED 'one thing'")
	run("BEGIN", "CREATE TABLE prepared2 (x int)", "PREPARE TRANSACTION 'another thing'", "ROLLBACK PREPARED 'another thing'")
	var many []string
	for i := range 100 { // more subtransactions than the header of a page holds
		many = append(many, fmt.Sprintf("SAVEPOINT s%d", i), "INSERT INTO t (a) VALUES (4)")
	}
	run(append(append([]string{"BEGIN"}, many...), "COMMIT")...)
	if c.Major >= 15 {
		c.Exec(t, "CREATE DATABASE copied STRATEGY file_copy", "DROP DATABASE copied")
	}
	c.Exec(t, "SELECT pg_switch_wal()", "CHECKPOINT", "INSERT INTO t (a) SELECT 5 FROM generate_series(1, 3000)", "SELECT pg_switch_wal()")
	mixShort(t, c)
}

// mixShort leaves many kinds of records in the first pages of a segment.
func mixShort(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t, "CREATE TABLE short (x int)", "CREATE TABLE cut (x int)", "CREATE SEQUENCE often", "SELECT pg_switch_wal()",
		"INSERT INTO short VALUES (1)", "INSERT INTO cut VALUES (1), (2)", "SELECT pg_create_restore_point('before it all')",
		"DROP TABLE short", "DELETE FROM cut", "VACUUM (TRUNCATE) cut", "SELECT nextval('often')")
	conn := c.Connect(t)
	for _, q := range []string{
		"BEGIN", "SAVEPOINT a", "INSERT INTO cut VALUES (1)", "SAVEPOINT b", "TRUNCATE cut", "PREPARE TRANSACTION 'short'", "COMMIT PREPARED 'short'",
		"BEGIN", "INSERT INTO cut VALUES (1)", "TRUNCATE cut", "ROLLBACK",
		"BEGIN", "INSERT INTO cut VALUES (1)", "PREPARE TRANSACTION 'short'", "ROLLBACK PREPARED 'short'", "CHECKPOINT",
	} {
		_, err := conn.Exec(t.Context(), q)
		require.NoError(t, err, q)
	}
	c.Exec(t, "SELECT pg_switch_wal()")
}

// liveWAL returns the content of the whole segments in pg_wal, in one.
func liveWAL(t testing.TB, c *pgtest.Cluster) []byte {
	t.Helper()
	last := pgtest.Value[string](t, c, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	files, err := filepath.Glob(filepath.Join(c.Data, "pg_wal", "0*"))
	require.NoError(t, err)
	slices.Sort(files)
	var all []byte
	for _, f := range files {
		if name := filepath.Base(f); len(name) == 24 && name < last {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			all = append(all, b...)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// seen is what is compared of a record.
type seen struct {
	LSN, End, Prev string
	XID            uint32
	Resource       string
	Length, Main   int
	Blocks         string
	Subxacts       string // of the end of a transaction, as the server prints them
	Dropped        string
}

func see(t *testing.T, r *wal.Record) seen {
	t.Helper()
	var blocks []string
	for _, b := range r.Blocks {
		blocks = append(blocks, fmt.Sprintf("%s %d %d", b.Relation, b.Fork, b.Block))
	}
	s := seen{
		LSN: r.LSN.String(), End: r.End.String(), Prev: r.Prev.String(), XID: r.XID, Resource: r.Resource.String(),
		Length: int(r.Length), Main: len(r.Data), Blocks: strings.Join(blocks, ", "),
	}
	if p, _ := r.Payload(); p != nil {
		if x, ok := p.(*wal.Transaction); ok {
			for _, xid := range x.Subxacts {
				s.Subxacts += fmt.Sprintf(" %d", xid)
			}
			for _, d := range x.Dropped {
				require.Equal(t, uint32(1663), d.Tablespace) // pg_default
				s.Dropped += fmt.Sprintf(" base/%d/%d", d.Database, d.Number)
			}
		}
	}
	return s
}

// What the server's description of the end of a transaction has.
var (
	subxactsText = regexp.MustCompile(`; subxacts:((?: \d+)+)`)
	droppedText  = regexp.MustCompile(`; rels(?:\(commit\))?:((?: base/\d+/\d+)+)`)
)

func match(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// TestRecordsEqualTheServers compares every record with what pg_walinspect says of it, and every commit with the time
// that the server remembers for it.
func TestRecordsEqualTheServers(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := newMixed(t, major, nil)
		first := pgtest.Value[int64](t, c, "SELECT txid_current()") // initdb's are not remembered
		mix(t, c)
		content := liveWAL(t, c)
		var got []seen
		times := map[uint32]time.Time{}
		kinds := map[string]int{}
		var last *wal.Checkpoint
		for r, err := range wal.Records(bytes.NewReader(content), nil) {
			require.NoError(t, err)
			got = append(got, see(t, r))
			p, err := r.Payload()
			require.NoError(t, err)
			kinds[fmt.Sprintf("%T", p)]++
			switch p := p.(type) {
			case *wal.Checkpoint:
				last = p
			case *wal.RestorePoint:
				require.Equal(t, "before it all", p.Name)
				require.WithinDuration(t, time.Now(), p.Time, time.Minute)
			}
			if x, ok := p.(*wal.Transaction); ok && x.Outcome == wal.Committed {
				for _, xid := range append(x.Subxacts, x.XID) {
					times[xid] = x.Time
				}
			}
		}
		requireEveryKind(t, kinds, major)
		requireCheckpoint(t, c, last)
		requireCommitTimes(t, c, first, times)
		if major >= 15 {
			requireInspected(t, c, got)
		}
		requireHoles(t, content, len(got))
		keepSeed(t, "records", fmt.Sprintf("pg%d", major), richest(content, int(segmentSizes[major]<<20)))
	})
}

// requireCheckpoint compares the last checkpoint with what pg_control has of it.
func requireCheckpoint(t *testing.T, c *pgtest.Cluster, last *wal.Checkpoint) {
	t.Helper()
	var redo, xid string
	var tli, oid int64
	var at time.Time
	require.NoError(t, c.Connect(t).QueryRow(t.Context(), `SELECT redo_lsn::text, timeline_id, next_xid, next_oid::bigint, checkpoint_time
		FROM pg_control_checkpoint()`).Scan(&redo, &tli, &xid, &oid, &at))
	require.Equal(t, redo, last.Redo.String())
	require.Equal(t, wal.Timeline(tli), last.Timeline)
	require.Equal(t, wal.Timeline(tli), last.PrevTimeline)
	require.Equal(t, xid, fmt.Sprintf("%d:%d", last.NextXID>>32, uint32(last.NextXID)))
	require.Equal(t, uint32(oid), last.NextOID)
	require.True(t, at.Equal(last.Time), "%s %s", at, last.Time)
	want := wal.WALLevelUnknown
	if c.Major >= 17 {
		want = wal.WALLevelLogical
	}
	require.Equal(t, want, last.WALLevel)
}

func requireEveryKind(t *testing.T, kinds map[string]int, major int) {
	t.Helper()
	want := []string{
		"*wal.Transaction", "*wal.Checkpoint", "*wal.RestorePoint", "*wal.Switch", "*wal.RelationCreate", "*wal.RelationTruncate",
		"*wal.DatabaseCreate", "*wal.DatabaseDrop", "*wal.NextOID", "*wal.ParameterChange",
	}
	if major >= 17 {
		want = append(want, "*wal.CheckpointRedo")
	}
	for _, k := range want {
		require.NotZero(t, kinds[k], "%s: %v", k, kinds)
	}
}

// requireCommitTimes asks the server for the commit time of every transaction that it remembers one of.
func requireCommitTimes(t *testing.T, c *pgtest.Cluster, first int64, times map[uint32]time.Time) {
	t.Helper()
	rows, err := c.Connect(t).Query(t.Context(), `SELECT x, pg_xact_commit_timestamp(x::text::xid)
		FROM generate_series($1, (SELECT (pg_last_committed_xact()).xid::text::bigint)) x`, first)
	require.NoError(t, err)
	defer rows.Close()
	compared := 0
	for rows.Next() {
		var xid int64
		var at *time.Time
		require.NoError(t, rows.Scan(&xid, &at))
		got, committed := times[uint32(xid)]
		require.Equal(t, at != nil, committed, "%d", xid)
		if at != nil {
			require.True(t, at.Equal(got), "%d: %s, want %s", xid, got, at)
			compared++
		}
	}
	require.NoError(t, rows.Err())
	require.Greater(t, compared, 100)
}

// requireInspected compares with pg_walinspect.
func requireInspected(t *testing.T, c *pgtest.Cluster, got []seen) {
	t.Helper()
	c.Exec(t, "CREATE EXTENSION pg_walinspect")
	blocks := map[string]string{}
	conn := c.Connect(t)
	if c.Major >= 16 {
		rows, err := conn.Query(t.Context(), `SELECT start_lsn::text, string_agg(format('%s/%s/%s %s %s', reltablespace, reldatabase, relfilenode,
			relforknumber, relblocknumber), ', ' ORDER BY block_id) FROM pg_get_wal_block_info($1::text::pg_lsn, $2::text::pg_lsn) GROUP BY 1`,
			got[0].LSN, got[len(got)-1].End)
		require.NoError(t, err)
		var lsn, text string
		_, err = pgx.ForEachRow(rows, []any{&lsn, &text}, func() error {
			blocks[lsn] = text
			return nil
		})
		require.NoError(t, err)
		require.NotEmpty(t, blocks)
	}
	rows, err := conn.Query(t.Context(), `SELECT start_lsn::text, end_lsn::text, prev_lsn::text, xid::text::bigint, resource_manager, record_length,
		main_data_length, coalesce(description, '') FROM pg_get_wal_records_info($1::text::pg_lsn, $2::text::pg_lsn)`, got[0].LSN, got[len(got)-1].End)
	require.NoError(t, err)
	defer rows.Close()
	i := 0
	for ; rows.Next(); i++ {
		var want seen
		var xid int64
		var description string
		require.NoError(t, rows.Scan(&want.LSN, &want.End, &want.Prev, &xid, &want.Resource, &want.Length, &want.Main, &description))
		want.XID, want.Blocks = uint32(xid), blocks[want.LSN]
		want.Subxacts, want.Dropped = match(subxactsText, description), match(droppedText, description)
		require.Less(t, i, len(got), "%v", want)
		have := got[i]
		if c.Major < 16 {
			have.Blocks = ""
		}
		require.Equal(t, want, have)
	}
	require.NoError(t, rows.Err())
	require.Len(t, got, i)
}

// requireHoles reads the same WAL in pieces of odd sizes.
func requireHoles(t *testing.T, content []byte, want int) {
	t.Helper()
	for _, size := range []int{1000, 8192, 8193, 1 << 20} {
		n := 0
		for _, err := range wal.Records(&dripping{r: bytes.NewReader(content), size: size}, nil) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, want, n, "pieces of %d", size)
	}
}

type dripping struct {
	r    io.Reader
	size int
}

func (d *dripping) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), d.size)]) }

const seedSize = 96 << 10

// richest returns the first pages of the segment that has most kinds of records there.
func richest(content []byte, size int) (best []byte) {
	most := 0
	for at := 0; at < len(content); at += size {
		part := content[at : at+seedSize]
		kinds := map[string]bool{}
		for r, err := range wal.Records(bytes.NewReader(part), nil) {
			if err == nil {
				p, _ := r.Payload()
				kinds[fmt.Sprintf("%s %x %T", r.Resource, r.Info, p)] = p != nil
			}
		}
		told := 0
		for _, is := range kinds {
			if is {
				told++
			}
		}
		if told > most {
			most, best = told, part
		}
	}
	return best
}
