package pgtest

import (
	"path/filepath"
	"testing"
)

// SwitchWAL has a cluster complete its segment of WAL, and returns its name. There is something in it to complete: else the
// server would switch to none, and since PostgreSQL 17 name the one that is to come.
func SwitchWAL(t testing.TB, c *Cluster) string {
	t.Helper()
	return Value[string](t, c, `select pg_walfile_name(pg_switch_wal()) from pg_logical_emit_message(false, 'pgtest', '')`)
}

// CompleteWAL has a cluster complete its segment of WAL, and returns the paths of all that its archiver would archive:
// segments up to that one, histories, and notes on backups.
func CompleteWAL(t testing.TB, c *Cluster) (paths []string) {
	t.Helper()
	last := SwitchWAL(t, c)
	files, err := filepath.Glob(filepath.Join(c.Data, "pg_wal", "0*"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	for _, f := range files {
		if name := filepath.Base(f); name <= last || len(name) != len(last) {
			paths = append(paths, f)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("pgtest: %s has no WAL", c.Data)
	}
	return paths
}
