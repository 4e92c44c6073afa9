package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcairn/pgcairn/wal"
)

// summaries asks for what the server's WAL summaries say of a timeline between two positions. The one that goes up to
// the second may have to be waited for.
func (s *server) summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	if s.version < 170000 {
		return nil, fmt.Errorf("PostgreSQL %d has no WAL summaries", s.version/10000)
	}
	var on bool
	if err := s.scan(ctx, `select current_setting('summarize_wal')::bool`, &on); err != nil {
		return nil, err
	}
	if !on {
		return nil, errors.New("summarize_wal is off")
	}
	enough := time.NewTimer(summaryTime)
	defer enough.Stop()
	for {
		list, covered, err := s.summaryList(ctx, t, from, to)
		if err != nil {
			return nil, err
		}
		if covered >= to {
			return s.readSummaries(ctx, t, list)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-enough.C:
			return nil, fmt.Errorf("the WAL summaries cover %s to %s only, not to %s", from, covered, to)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// summaryTime bounds the wait for a WAL summary. The server's summarizer may sleep for 30 seconds (MAX_SLEEP_QUANTA of
// walsummarizer.c), and again.
const summaryTime = 70 * time.Second

// summary is a WAL summary of the server.
type summary struct{ start, end wal.LSN }

// summaryList returns the summaries from one position on, and up to where, without a gap, they tell of changes.
func (s *server) summaryList(ctx context.Context, t wal.Timeline, from, to wal.LSN) (list []summary, covered wal.LSN, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.conn.Query(ctx, `select a.start_lsn::text, a.end_lsn::text from pg_available_wal_summaries() a
		where a.tli = $1 and a.end_lsn > $2::text::pg_lsn and a.start_lsn < $3::text::pg_lsn order by a.start_lsn`,
		int64(t), from.String(), to.String())
	if err != nil {
		return nil, 0, err
	}
	covered = from
	var texts [2]string
	_, err = pgx.ForEachRow(rows, []any{&texts[0], &texts[1]}, func() error {
		start, err1 := wal.ParseLSN(texts[0])
		end, err2 := wal.ParseLSN(texts[1])
		if start <= covered {
			list, covered = append(list, summary{start, end}), max(covered, end)
		}
		return errors.Join(err1, err2)
	})
	return list, covered, err
}

func (s *server) readSummaries(ctx context.Context, t wal.Timeline, list []summary) (*wal.Blocks, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocks := &wal.Blocks{}
	for _, sum := range list {
		// A limit comes before the blocks that have changed since.
		rows, err := s.conn.Query(ctx, `select relfilenode, reltablespace, reldatabase, relforknumber, relblocknumber, is_limit_block
			from pg_wal_summary_contents($1, $2::text::pg_lsn, $3::text::pg_lsn) order by is_limit_block desc`,
			int64(t), sum.start.String(), sum.end.String())
		if err != nil {
			return nil, err
		}
		var f wal.File
		var fork int16
		var block int64
		var limit bool
		_, err = pgx.ForEachRow(rows, []any{&f.Number, &f.Tablespace, &f.Database, &fork, &block, &limit}, func() error {
			f.Fork = wal.ForkNumber(fork)
			if limit {
				blocks.Cut(f, uint32(block))
			} else {
				blocks.Mark(f, uint32(block))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return blocks, nil
}
