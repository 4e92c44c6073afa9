package drill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// recovered is where recovery has ended.
type recovered struct {
	restore.Point          // behind the last record replayed, and when the last transaction replayed had ended; zero when nobody can be asked
	stopping      string   // what the server said when it reached the target
	invalid       []string // relations, by their path, whose pages recovery did not find as they should be
}

// whereRecovered asks the server where recovery has ended. Both functions keep what they say once
// it has.
func (s *server) whereRecovered(ctx context.Context, state outcome) (*recovered, error) {
	log, err := readLog(s.scratch.path(logName))
	if err != nil {
		return nil, err
	}
	r := &recovered{stopping: log.stopping, invalid: log.invalid}
	if state == shutDown {
		return r, nil // pg_control tells of the last restart point only
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	var lsn *string
	var at *time.Time
	err = conn.QueryRow(ctx, `select pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp()`).Scan(&lsn, &at)
	if err != nil {
		return nil, err
	}
	if lsn == nil {
		return nil, errors.New("the server says that it has replayed nothing")
	}
	if r.LSN, err = wal.ParseLSN(*lsn); err != nil {
		return nil, err
	}
	if at != nil {
		r.Time = at.UTC()
	}
	return r, nil
}

// check tells whether recovery has ended where the plan says. last is where the last record of the plan's WAL begins.
func (r *recovered) check(p *restore.Plan, last wal.LSN) error {
	known := r.LSN != 0
	if known && r.LSN < p.Backup.StopLSN {
		return elsewhere("at %s, before the backup's end at %s", r.LSN, p.Backup.StopLSN)
	}
	t := p.Target
	if t.Kind == restore.KindLatest {
		if r.stopping != "" {
			return elsewhere("the server was told to end at some target: %s", r.stopping)
		}
		if r.LSN <= last {
			return elsewhere("at %s, before the last record of the archive at %s", r.LSN, last)
		}
		return nil
	}
	if t.Kind == restore.KindImmediate && r.stopping == "" && r.LSN <= p.End() && p.End() == p.Backup.StopLSN {
		return nil // the end of the WAL takes the place of the target
	}
	if r.stopping == "" {
		return elsewhere("at %s, and the server has not said that it reached the target", r.LSN)
	}
	// Of a record that begins before the target and goes on behind it, the end is behind the target as well.
	short := t.Kind == restore.KindLSN && !t.Exclusive && known && r.LSN <= t.LSN
	if short || !r.reached(t) {
		return elsewhere("%s is not what was asked for", r.stopping)
	}
	return nil
}

// reached tells whether what the server said when it stopped (recoveryStopsBefore and recoveryStopsAfter of PostgreSQL's
// xlogrecovery.c) means the target.
func (r *recovered) reached(t restore.Target) bool {
	said := strings.TrimPrefix(r.stopping, "recovery stopping ")
	when := "after "
	if t.Exclusive {
		when = "before "
	}
	switch t.Kind {
	case restore.KindImmediate:
		return said == "after reaching consistency"
	case restore.KindName:
		// A name may go on in the next line.
		name, _, more := strings.Cut(strings.ToValidUTF8(t.Name, "?"), "\n")
		end := `", `
		if more {
			end = ""
		}
		return strings.HasPrefix(said, `at restore point "`+name+end)
	case restore.KindXID:
		xid := strconv.FormatUint(uint64(uint32(t.XID)), 10)
		return strings.HasPrefix(said, when+"commit of transaction "+xid+",") ||
			strings.HasPrefix(said, when+"abort of transaction "+xid+",")
	case restore.KindLSN:
		return strings.HasPrefix(said, when+"WAL location (LSN) ")
	case restore.KindTime:
		return r.reachedTime(said, t)
	}
	return false
}

// reachedTime tells whether the first transaction that is not in ended after the target, and the last one that is, not.
func (r *recovered) reachedTime(said string, t restore.Target) bool {
	_, text, ok := strings.Cut(said, ", time ")
	if !ok || !strings.HasPrefix(said, "before ") {
		return false
	}
	next, err := time.Parse("2006-01-02 15:04:05.999999-07", text)
	if err != nil {
		return false
	}
	if t.Exclusive {
		return !next.Before(t.Time) && r.Time.Before(t.Time)
	}
	return next.After(t.Time) && !r.Time.After(t.Time)
}

// damage tells whether recovery has passed over damage of what was restored.
func (r *recovered) damage(restored func(path string) bool) error {
	e := &DamageError{}
	for _, path := range r.invalid {
		if restored(path) {
			e.Paths = append(e.Paths, path)
		}
	}
	if len(e.Paths) == 0 {
		return nil
	}
	return e
}

func elsewhere(format string, args ...any) error {
	return &ElsewhereError{Reason: fmt.Sprintf(format, args...)}
}
