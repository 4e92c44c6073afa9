package salvage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
)

// TableReport is a table that was brought back.
type TableReport struct {
	Table
	OID      uint32 `json:"oid"`                // at the target
	Rows     int64  `json:"rows"`               // that were read
	Bytes    int64  `json:"bytes"`              // of all its files, with indexes and TOAST
	Unlogged bool   `json:"unlogged,omitempty"` // so that it is empty
}

// read reads all pages of the table and of its TOAST, which finds those that fail their checksum, and counts its rows.
func (t *TableReport) read(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // and the settings with it
	const settings = `set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off`
	if _, err := tx.Exec(ctx, settings); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `select count(*) from only `+t.String()).Scan(&t.Rows); err != nil {
		return fmt.Errorf("read table %s: %w", t.Table, err)
	}
	var toast *string
	const query = `select nullif(reltoastrelid, 0)::regclass::text from pg_class where oid = $1`
	if err := tx.QueryRow(ctx, query, t.OID).Scan(&toast); err != nil || toast == nil {
		return err
	}
	var chunks int64
	if err := tx.QueryRow(ctx, `select count(*) from `+*toast).Scan(&chunks); err != nil {
		return fmt.Errorf("read what table %s has out of line: %w", t.Table, err)
	}
	return nil
}

// Report tells what was brought back.
type Report struct {
	Plan        *restore.Plan             // nil where there is none
	Unreachable *restore.UnreachableError // why; nil where there is one
	Server      string                    // version of the programs
	RecoveredTo *restore.Point            // behind the last record replayed, and when the last transaction in it ended; nil when it is not known
	Database    string
	Tables      []TableReport // in the order in which they were named

	// Of all attempts: there is a second one where a table has another name in the backup.
	RestoredBytes int64 // written to files
	Segments      int   // of WAL, staged

	PlanTook     time.Duration
	RestoreTook  time.Duration
	RecoveryTook time.Duration
	TablesTook   time.Duration // reading them, and what Run was given to do
	Took         time.Duration // all, with cleaning up

	OK      bool
	Phase   drill.Phase // that failed; empty when OK
	Problem string      // why; empty when OK
	Log     []string    // the last lines that the server printed
}

// add adds what an attempt has done.
func (r *Report) add(d *drill.Report) {
	r.Server, r.RecoveredTo, r.Log = d.Server, d.RecoveredTo, d.Log
	r.RestoredBytes += d.RestoredBytes
	r.Segments += d.Segments
	r.RestoreTook += d.RestoreTook
	r.RecoveryTook += d.RecoveryTook
	r.TablesTook += d.CheckTook
}

// conclude takes down how it ended.
func (r *Report) conclude(err error) {
	var failed *Error
	if r.OK = err == nil; errors.As(err, &failed) {
		r.Phase, r.Problem = failed.Phase, failed.Err.Error()
	}
}

// MarshalJSON implements json.Marshaler. Durations are in seconds.
func (r *Report) MarshalJSON() ([]byte, error) {
	var plan any
	switch {
	case r.Plan != nil:
		plan = r.Plan
	case r.Unreachable != nil:
		plan = r.Unreachable
	}
	return json.Marshal(struct {
		Plan            any            `json:"plan"`
		Server          string         `json:"server_version,omitempty"`
		RecoveredTo     *restore.Point `json:"recovered_to"`
		Database        string         `json:"database"`
		Tables          []TableReport  `json:"tables"`
		RestoredBytes   int64          `json:"restored_bytes"`
		Segments        int            `json:"segments"`
		PlanSeconds     float64        `json:"plan_seconds"`
		RestoreSeconds  float64        `json:"restore_seconds"`
		RecoverySeconds float64        `json:"recovery_seconds"`
		TablesSeconds   float64        `json:"tables_seconds"`
		Seconds         float64        `json:"duration_seconds"`
		OK              bool           `json:"ok"`
		Phase           string         `json:"phase,omitempty"`
		Problem         string         `json:"problem,omitempty"`
		Log             []string       `json:"log"`
	}{
		plan, r.Server, r.RecoveredTo, r.Database, append([]TableReport{}, r.Tables...), r.RestoredBytes, r.Segments,
		r.PlanTook.Seconds(), r.RestoreTook.Seconds(), r.RecoveryTook.Seconds(), r.TablesTook.Seconds(), r.Took.Seconds(),
		r.OK, phaseName(r.Phase), r.Problem, append([]string{}, r.Log...),
	})
}

// String describes it in a few lines, with what the server printed where it failed.
func (r *Report) String() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.OK {
		b.WriteString("salvage: ok\n")
	} else {
		fmt.Fprintf(&b, "salvage: FAILED, phase %s: %s\n", phaseName(r.Phase), r.Problem)
	}
	if r.Plan != nil {
		row("target", "%s, on timeline %d", r.Plan.Target, r.Plan.Timeline)
		row("backup", "%s: %s, consistent from %s at %s", r.Plan.Backup.ID, r.Plan.Backup.Type, r.Plan.Backup.StopLSN,
			r.Plan.Backup.StoppedAt.Format(time.RFC3339))
		for _, w := range r.Plan.Warnings {
			row("warning", "%s", w)
		}
	}
	if p := r.RecoveredTo; p != nil {
		row("recovered", "to %s", p)
	}
	for _, t := range r.Tables {
		text := fmt.Sprintf("%s: %d rows, %d bytes", t.Table, t.Rows, t.Bytes)
		if t.Unlogged {
			text += "; it is unlogged, of which recovery leaves no rows"
		}
		row("table", "%s", text)
	}
	if r.RestoredBytes > 0 {
		row("restored", "%d bytes, %d segments", r.RestoredBytes, r.Segments)
	}
	row("took", "plan %.1f s, restore %.1f s, recovery %.1f s, tables %.1f s", r.PlanTook.Seconds(), r.RestoreTook.Seconds(),
		r.RecoveryTook.Seconds(), r.TablesTook.Seconds())
	if !r.OK {
		for _, line := range r.Log {
			row("log", "%s", line)
		}
	}
	return b.String()
}
