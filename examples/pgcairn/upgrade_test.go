package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestClusterUpgradedRoad: a cluster is replaced by one of another major version in the same repository, which archives by
// command all the while. Both come back, each with its own WAL, by restore_command and staged.
func TestClusterUpgradedRoad(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	reader := h.reader()
	type side struct {
		c      *pgtest.Cluster
		id     string // of its backup
		system string
		want   map[string]string
	}
	prepare := func(major int) *side {
		c := newCluster(t, h, &pgtest.Options{Major: major, SegmentSize: 1 << 20})
		c.Exec(t, fmt.Sprintf(`create table told as select i, %d as major from generate_series(1, 20000) i`, major))
		return &side{c: c, system: pgtest.Value[string](t, c, `select system_identifier::text from pg_control_system()`)}
	}
	near := func(s *side) *host { return h.writer().with("PGHOST="+s.c.Socket, "PGUSER=postgres") }
	finish := func(s *side) {
		s.c.Exec(t, `insert into told select i, -1 from generate_series(1, 20000) i`)
		archiveAll(t, s.c)
		s.want = pgtest.Checksums(t, s.c)
		s.c.Stop(t)
	}

	old := prepare(16)
	old.id = near(old).json(t, "backup", "--pgdata", old.c.Data)["id"].(string)
	finish(old)

	upgraded := prepare(18)
	h.writer().run(t, "wal", "push", someSegment(t, upgraded.c)).requireFailure(t, 1, "belongs to system identifier "+old.system, "--upgraded-from")
	near(upgraded).run(t, "check").requireFailureSays(t, "belongs to system identifier "+old.system, "--upgraded-from")
	args := []string{"backup", "--pgdata", upgraded.c.Data, "--type", "auto"}
	near(upgraded).run(t, args...).requireFailure(t, 1, "from system identifier "+old.system, "--upgraded-from")
	near(upgraded).run(t, append(args, "--upgraded-from", "7")...).requireFailure(t, 1, "from system identifier "+old.system, "--upgraded-from")
	out := near(upgraded).run(t, append(args, "--upgraded-from", old.system, "--json")...)
	require.Zero(t, out.code, out.stderr)
	b := parseJSON(t, out.stdout)
	require.Equal(t, "full", b["type"])
	reason := fmt.Sprintf("the system identifier has changed from %s to %s, and PostgreSQL from 16 to 18, since backup %s", old.system, upgraded.system, old.id)
	require.Equal(t, reason, b["reason"])
	require.Contains(t, out.stderr, reason, "it is said aloud")
	incr := near(upgraded).json(t, append(args, "--upgraded-from", old.system)...) // the consent may stay
	require.Equal(t, "incremental", incr["type"])
	require.Equal(t, b["id"], incr["parent"])
	upgraded.id = incr["id"].(string)
	finish(upgraded)
	h.writer().run(t, "wal", "push", someSegment(t, old.c)).
		requireFailure(t, 1, "belonged before", "stop that server")

	list := reader.json(t, "wal", "list")
	require.Equal(t, upgraded.system, list["system_id"])
	require.Equal(t, old.system, list["earlier"].([]any)[0].(map[string]any)["system_id"])
	require.Contains(t, reader.ok(t, "wal", "list"), "before, of system identifier "+old.system)
	require.Equal(t, upgraded.id, reader.json(t, "plan")["backup"])
	require.Equal(t, old.id, reader.json(t, "plan", "--system-id", old.system)["backup"])
	require.NotEmpty(t, reader.json(t, "wal", "search", "--system-id", old.system, "--kind", "commit")["events"])
	first := list["timelines"].([]any)[0].(map[string]any)["first"].(string)
	reader.run(t, "wal", "fetch", first, filepath.Join(h.dir, "x")).requireFailure(t, 200, "say of which", "--system-id")
	for _, s := range []*side{old, upgraded} {
		require.Contains(t, reader.ok(t, "plan", "--backup", s.id, "--json"), s.system)
		for _, how := range []string{"staged", "command", "by its data directory"} {
			t.Run(fmt.Sprintf("%d, %s", s.c.Major, how), func(t *testing.T) {
				dir := filepath.Join(pgtest.Dir(t), "data")
				o := &pgtest.BootOptions{}
				args := []string{"restore", dir, "--backup", s.id, "--wal", how}
				if how == "by its data directory" { // as in a restore_command that a person has written
					o.Env, o.Conf = reader.env, map[string]string{"restore_command": program + " wal fetch --prefetch 4 %f %p"}
					args = args[:len(args)-2]
				}
				reader.ok(t, args...)
				require.Equal(t, s.want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, o)))
			})
		}
	}
}

// someSegment is the path of a segment in a server's pg_wal.
func someSegment(t *testing.T, c *pgtest.Cluster) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.Data, "pg_wal", "00000001*"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths[0]
}

// requireFailureSays is requireFailure of a command that prints as well.
func (o outcome) requireFailureSays(t *testing.T, problem, hint string) {
	t.Helper()
	require.Contains(t, o.stdout, problem)
	o.stdout = ""
	o.requireFailure(t, 1, problem, hint)
}
