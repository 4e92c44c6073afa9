package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// LoadOptions say how [StartLoad] works. The zero value of each field is its default, and nil is allowed.
type LoadOptions struct {
	Database    string        // default: postgres
	Connections int           // default: 2
	Pause       time.Duration // of each connection between transactions; default: 2 ms, which leaves the cores to who is tested; negative: none
	MayBreak    bool          // the server may go away; default: an error fails the test when the load is stopped
}

// LoadTable is the table that a load writes to: id, worker, at (the time of the insert), changes, note.
const LoadTable = "public.pgtest_load"

// Load is a load of small transactions that runs until it is stopped.
type Load struct {
	stopping atomic.Bool
	done     sync.WaitGroup
	mayBreak bool
	workers  []*worker
}

// LoadCounts says what a load has done, in transactions that the server has confirmed.
type LoadCounts struct {
	Transactions, Inserts, Updates, Deletes int64
	Live                                    []int64 // ids of the rows that must be there, in order
}

// StartLoad creates [LoadTable], unless it exists, and writes to it in the background: transactions of one to five
// inserts, updates and deletes, each connection among rows of its own. Stop it with [Load.Stop], or it stops with the
// test.
func StartLoad(t testing.TB, c *Cluster, o *LoadOptions) *Load {
	t.Helper()
	if o == nil {
		o = &LoadOptions{}
	}
	db, connections := o.Database, o.Connections
	if db == "" {
		db = "postgres"
	}
	if connections == 0 {
		connections = 2
	}
	pause := cmp.Or(o.Pause, 2*time.Millisecond)
	c.ExecIn(t, db, `CREATE TABLE IF NOT EXISTS `+LoadTable+` (
		id bigserial PRIMARY KEY, worker int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
		changes int NOT NULL DEFAULT 0, note text NOT NULL)`)
	l := &Load{mayBreak: o.MayBreak}
	t.Cleanup(func() { l.halt() })
	for n := range connections {
		w := &worker{
			conn: c.dial(t, db), pause: pause, number: n,
			rand: rand.New(rand.NewPCG(uint64(n), 1)), //nolint:gosec // the same work in every run
		}
		l.workers = append(l.workers, w)
		l.done.Go(func() { w.run(&l.stopping) })
	}
	return l
}

// Stop lets the transactions under way end, closes the connections and returns what was done.
func (l *Load) Stop(t testing.TB) LoadCounts {
	t.Helper()
	l.halt()
	var sum LoadCounts
	for _, w := range l.workers {
		if w.err != nil && !l.mayBreak {
			t.Errorf("pgtest: load, connection %d: %v", w.number, w.err)
		}
		sum.Transactions += w.counts.Transactions
		sum.Inserts += w.counts.Inserts
		sum.Updates += w.counts.Updates
		sum.Deletes += w.counts.Deletes
		sum.Live = append(sum.Live, w.live...)
	}
	slices.Sort(sum.Live)
	return sum
}

func (l *Load) halt() {
	l.stopping.Store(true)
	l.done.Wait()
}

// worker is one connection of a load.
type worker struct {
	conn   *pgx.Conn
	pause  time.Duration
	number int
	rand   *rand.Rand
	live   []int64 // rows of confirmed transactions that nothing, confirmed or not, has deleted
	counts LoadCounts
	err    error
}

func (w *worker) run(stopping *atomic.Bool) {
	ctx := context.Background()
	defer closeConn(w.conn)
	for !stopping.Load() && w.err == nil {
		w.err = w.transaction(ctx)
		if w.pause > 0 {
			time.Sleep(w.pause)
		}
	}
}

// transaction changes a few rows. It counts only once its commit is confirmed.
func (w *worker) transaction(ctx context.Context) error {
	counts := w.counts
	var inserted []int64
	err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		for range 1 + w.rand.IntN(5) {
			kind := w.rand.IntN(4)
			var err error
			switch {
			case kind == 2 && len(w.live) > 0:
				counts.Updates++
				err = w.update(ctx, tx)
			case kind == 3 && len(w.live) > 100:
				counts.Deletes++
				err = w.delete(ctx, tx)
			default:
				counts.Inserts++
				inserted, err = w.insert(ctx, tx, inserted)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.live = append(w.live, inserted...)
	w.counts = counts
	w.counts.Transactions++
	return nil
}

func (w *worker) insert(ctx context.Context, tx pgx.Tx, inserted []int64) ([]int64, error) {
	var id int64
	note := strings.Repeat(fmt.Sprintf("%x ", w.rand.Uint64()), 1+w.rand.IntN(20))
	err := tx.QueryRow(ctx, "INSERT INTO "+LoadTable+" (worker, note) VALUES ($1, $2) RETURNING id",
		w.number, note).Scan(&id)
	return append(inserted, id), err
}

func (w *worker) update(ctx context.Context, tx pgx.Tx) error {
	return changeOne(ctx, tx, "UPDATE "+LoadTable+" SET changes = changes + 1 WHERE id = $1",
		w.live[w.rand.IntN(len(w.live))])
}

func (w *worker) delete(ctx context.Context, tx pgx.Tx) error {
	i := w.rand.IntN(len(w.live))
	id := w.live[i]
	w.live = slices.Delete(w.live, i, i+1)
	return changeOne(ctx, tx, "DELETE FROM "+LoadTable+" WHERE id = $1", id)
}

func changeOne(ctx context.Context, tx pgx.Tx, sql string, id int64) error {
	tag, err := tx.Exec(ctx, sql, id)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New(sql + ": row is gone")
	}
	return err
}
