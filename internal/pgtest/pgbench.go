package pgtest

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// PgbenchOptions say how [StartPgbench] works. The zero value of each field is its default, and nil is allowed.
type PgbenchOptions struct {
	Scale   int // of the tables, of 100,000 accounts each; default: 1
	Clients int // default: 2
	Rate    int // transactions a second that are aimed at; default: as many as there can be
}

// Pgbench is a run of the distribution's pgbench, with the transactions of TPC-B.
type Pgbench struct {
	c       *Cluster
	output  string
	process *process
}

// StartPgbench makes pgbench's tables in the database postgres and starts its load, against a server of any version. Stop
// it with [Pgbench.Stop], or it stops with the test.
func StartPgbench(t testing.TB, c *Cluster, o *PgbenchOptions) *Pgbench {
	t.Helper()
	if o == nil {
		o = &PgbenchOptions{}
	}
	scale, clients := max(1, o.Scale), o.Clients
	if clients == 0 {
		clients = 2
	}
	program := DistroBin(t, "pgbench")
	where := []string{"--host=" + c.Socket, "--port=" + strconv.Itoa(c.Port), "--username=postgres"}
	Run(t, program, append([]string{"--initialize", "--quiet", "--scale=" + strconv.Itoa(scale), "postgres"}, where...)...)
	args := append([]string{"--no-vacuum", "--time=86400", "--client=" + strconv.Itoa(clients), "postgres"}, where...)
	if o.Rate > 0 {
		args = append(args, "--rate="+strconv.Itoa(o.Rate))
	}
	b := &Pgbench{c: c, output: filepath.Join(Dir(t), "pgbench.log")}
	out, err := os.Create(b.output)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer func() { _ = out.Close() }() // pgbench has its own descriptor
	if b.process, err = startProcess(t, out, nil, program, args...); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() { _ = b.end() })
	return b
}

// Stop ends the load and returns how many transactions it has committed, none of which is under way any more. The test
// fails when it has ended by itself.
func (b *Pgbench) Stop(t testing.TB) (transactions int64) {
	t.Helper()
	if b.process.ended() {
		text, _ := os.ReadFile(b.output)
		t.Fatalf("pgtest: pgbench ended: %v\n%s", b.process.err, text)
	}
	if err := b.end(); err != nil {
		t.Fatalf("pgtest: pgbench: %v", err)
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for deadline := time.Now().Add(stopTimeout); ; <-tick.C {
		if Value[int64](t, b.c, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") == 0 {
			return Value[int64](t, b.c, "SELECT count(*) FROM pgbench_history") // of a row each
		}
		if time.Now().After(deadline) {
			t.Fatal("pgtest: sessions of pgbench outlive it")
		}
	}
}

func (b *Pgbench) end() error {
	err := b.process.signal(syscall.SIGTERM) // of which it dies at once
	<-b.process.done
	return err
}
