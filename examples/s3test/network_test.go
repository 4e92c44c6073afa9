package s3test_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

var (
	outageTime = flag.Duration("outage", 2*time.Second, "how long the network is down")
	outageRows = flag.Int("outage-rows", 50_000, "rows of the cluster that is backed up meanwhile, of 200 bytes")
)

// maxHeap bounds what a road takes of memory, in bytes, whatever the network does: packs and segments that are under way,
// of two jobs, and what the receiver holds.
const maxHeap = 256 << 20

// weather is what a network does to a road.
type weather struct {
	name   string
	toxics []s3test.Toxic // all the time
	stall  []s3test.Toxic // during an outage, which otherwise breaks all connections
	outage bool           // one at each of the stages of the road
	retry  repo.RetryOptions
}

func toxic(kind, stream string, part float64, attributes map[string]int) s3test.Toxic {
	return s3test.Toxic{Type: kind, Stream: stream, Toxicity: part, Attributes: attributes}
}

// TestBadNetwork walks the road through a network that is slow, or breaks, or is down for a while at each stage: the
// repository is made, a backup is taken while WAL is received, WAL is pushed, and all is restored. It all comes to its
// end, with the data complete, and memory is bounded.
func TestBadNetwork(t *testing.T) {
	silence := map[string]int{"timeout": 0}
	for _, w := range []weather{
		{name: "slow", toxics: []s3test.Toxic{
			toxic("latency", "upstream", 1, map[string]int{"latency": 20, "jitter": 10}),
			toxic("bandwidth", "upstream", 1, map[string]int{"rate": 8 << 10}),
			toxic("bandwidth", "downstream", 1, map[string]int{"rate": 8 << 10}),
			toxic("slicer", "downstream", 1, map[string]int{"average_size": 4096, "size_variation": 2048, "delay": 10}),
		}},
		{name: "resets", toxics: []s3test.Toxic{
			toxic("reset_peer", "upstream", 0.1, map[string]int{"timeout": 30}),
			toxic("reset_peer", "downstream", 0.1, map[string]int{"timeout": 30}),
			toxic("limit_data", "downstream", 0.5, map[string]int{"bytes": 3 << 20}),
		}},
		{name: "outages", outage: true},
		{
			name: "stalls", outage: true, retry: repo.RetryOptions{Stall: 2 * time.Second},
			stall: []s3test.Toxic{toxic("timeout", "upstream", 1, silence), toxic("timeout", "downstream", 1, silence)},
		},
	} {
		t.Run(w.name, func(t *testing.T) { walk(t, w) })
	}
}

// answers are no failures of the network.
var answers = []error{fs.ErrNotExist, fs.ErrExist, repo.ErrAborted}

// walk walks the road.
func walk(t *testing.T, w weather) {
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "max_wal_size": "1GB",
	}})
	c.Exec(t, `create table t (id bigint primary key, text text)`,
		`create function fill(a int, b int) returns void language sql as
			$$ insert into t select i, md5(i::text) || md5(i * 7 || 'x') || md5(i * 11 || 'y') || md5(i * 13 || 'z') from generate_series(a, b) i $$`)
	c.Exec(t, fmt.Sprintf(`select fill(1, %d)`, *outageRows))

	network := s3test.NewNetwork(t, s3test.StartMinIO(t).Endpoint)
	network.Add(t, w.toxics...)
	down, up := func() { network.Break(t) }, func() { network.Mend(t) }
	if w.stall != nil {
		down, up = func() { network.Add(t, w.stall...) }, func() { network.Remove(t, w.stall...) }
	}
	var due atomic.Pointer[string] // the outage begins when a request for such a key has ended
	var requests, failures atomic.Int64
	restored := make(chan struct{}, 3) // the network is up again
	note := func(op repo.Op) {
		requests.Add(1)
		if op.Err != nil && !slices.ContainsFunc(answers, func(is error) bool { return errors.Is(op.Err, is) }) {
			failures.Add(1)
		}
		if at := due.Load(); at != nil && strings.HasPrefix(op.Key, *at) && due.CompareAndSwap(at, nil) {
			down()
			time.AfterFunc(*outageTime, func() { up(); restored <- struct{}{} })
		}
	}
	expect := func(key string) {
		if w.outage {
			due.Store(&key)
		}
	}
	// over makes sure that there has been an outage.
	over := func() {
		if w.outage {
			require.Nil(t, due.Load(), "it has not begun")
			<-restored
		}
	}
	s := repo.Retry(repo.Observe(openStore(t, network.Endpoint, nil), note), &w.retry)
	heap := watchHeap(t)

	r, err := repo.Init(t.Context(), s, nil)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	received := make(chan error, 1)
	go func() {
		received <- a.Receive(ctx, c.DSN("postgres"), &wal.ReceiveOptions{Slot: "receiver", CreateSlot: true, FlushEvery: 100 * time.Millisecond})
	}()
	defer func() {
		stop()
		<-received
	}()
	c.Await(t, `select count(*) > 0 from pg_replication_slots where active`)

	source, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	expect("packs/")
	_, err = backup.Take(t.Context(), r, source, &backup.Options{Jobs: 2})
	require.NoError(t, err)
	over()

	expect("wal/")
	for i := range 8 {
		first := *outageRows + 1 + i*1000
		c.Exec(t, fmt.Sprintf(`select fill(%d, %d)`, first, first+999), `select pg_switch_wal()`)
	}
	pushed, err := a.PushReady(t.Context(), c.Data, &wal.ReadyOptions{Jobs: 2, Files: 1 << 20, Time: time.Hour})
	require.NoError(t, err)
	require.NotEmpty(t, pushed.Files)
	over()
	want := pgtest.Checksums(t, c)
	c.Exec(t, `select pg_switch_wal()`)
	c.Await(t, `select restart_lsn >= pg_current_wal_flush_lsn() from pg_replication_slots`)
	stop()
	require.NoError(t, <-received)
	received <- nil

	expect("packs/")
	p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	dir := filepath.Join(pgtest.Dir(t), "data")
	_, err = p.Run(t.Context(), r, dir, &restore.Options{Jobs: 2})
	require.NoError(t, err)
	over()
	peak := heap()
	t.Logf("%d requests, %d of them failed, %d MiB of heap at most", requests.Load(), failures.Load(), peak>>20)
	require.Less(t, peak, uint64(maxHeap))
	c.Stop(t)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
}

// watchHeap watches how large the heap grows until it is asked.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	var peak uint64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}; ; {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() uint64 {
		close(end)
		<-ended
		return peak
	}
}
