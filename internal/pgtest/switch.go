package pgtest

import "testing"

// SwitchWAL has a cluster complete its segment of WAL, and returns its name. There is something in it to complete: else the
// server would switch to none, and since PostgreSQL 17 name the one that is to come.
func SwitchWAL(t testing.TB, c *Cluster) string {
	t.Helper()
	return Value[string](t, c, `select pg_walfile_name(pg_switch_wal()) from pg_logical_emit_message(false, 'pgtest', '')`)
}
