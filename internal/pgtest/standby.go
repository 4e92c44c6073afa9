package pgtest

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Follow makes a standby of a cluster, from a copy for which the cluster is stopped, and starts both. Unless the options'
// Conf has another primary_conninfo, the standby streams from the cluster, by a slot of its own, so that no WAL that it
// lacks is removed. The cluster has no tablespaces but those in place.
func (c *Cluster) Follow(t testing.TB, o *BootOptions) *Cluster {
	t.Helper()
	if o == nil {
		o = &BootOptions{}
	}
	standby := c.InRecovery(t)
	c.Stop(t)
	dir := Copy(t, c.Data)
	if standby {
		c.StartStandby(t)
	} else {
		c.Start(t)
	}
	conf := map[string]string{"primary_conninfo": c.DSN("postgres")}
	if _, other := o.Conf["primary_conninfo"]; !other {
		slot := "pgtest_" + filepath.Base(filepath.Dir(dir))
		c.Exec(t, `select pg_create_physical_replication_slot('`+slot+`', true)`)
		conf["primary_slot_name"] = slot
	}
	maps.Copy(conf, o.Conf)
	if err := os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	with := *o
	with.Conf, with.Standby = conf, true
	return Boot(t, dir, c.Major, &with)
}

// InRecovery tells whether the server is a standby.
func (c *Cluster) InRecovery(t testing.TB) bool {
	t.Helper()
	return Value[bool](t, c, `select pg_is_in_recovery()`)
}

// CatchUp waits until a standby has replayed all that its primary has written so far.
func (c *Cluster) CatchUp(t testing.TB, primary *Cluster) {
	t.Helper()
	end := Value[string](t, primary, `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text`)
	c.Await(t, `select pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, end)
}

// Await polls until a query in the database postgres yields true.
func (c *Cluster) Await(t testing.TB, sql string, args ...any) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	for !Value[bool](t, c, sql, args...) {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("pgtest: it is not so after %v: %s %v", startTimeout, sql, args)
		}
	}
}
