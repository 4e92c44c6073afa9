package restore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// planJSON is the stable JSON form of a plan, and of the lack of one.
type planJSON struct {
	Backup       *backup.ID        `json:"backup"` // nil, as the timeline, where none leads there
	SystemID     uint64            `json:"system_id,omitempty,string"`
	Target       Target            `json:"target"`
	Timeline     *wal.Timeline     `json:"timeline"`
	WAL          []wal.Range       `json:"wal"`
	WALBytes     int64             `json:"wal_bytes"`
	RestoreBytes int64             `json:"restore_bytes"`
	Requests     int               `json:"requests"`
	Reachable    bool              `json:"reachable"`
	Reason       *string           `json:"reason"` // nil where it is reachable
	Missing      []wal.Range       `json:"missing,omitempty"`
	Nearest      nearestJSON       `json:"nearest"`
	SpaceBytes   int64             `json:"space_bytes"`
	LastCommit   *wal.Event        `json:"last_commit,omitempty"`
	NextCommit   *wal.Event        `json:"next_commit,omitempty"`
	Settings     map[string]string `json:"settings,omitempty"` // of a restore without options
	Undone       *Undone           `json:"undone,omitempty"`
	Instead      *Target           `json:"instead,omitempty"`
	Means        []wal.Event       `json:"means,omitempty"`
	Warnings     []string          `json:"warnings"`
}

type nearestJSON struct {
	Before *Point `json:"before"`
	After  *Point `json:"after"`
}

// MarshalJSON implements json.Marshaler.
func (p *Plan) MarshalJSON() ([]byte, error) { return json.Marshal(p.json()) }

func (p *Plan) json() planJSON {
	return planJSON{
		Backup: &p.Backup.ID, SystemID: p.Backup.SystemID, Target: p.Target, Timeline: &p.Timeline, WAL: append([]wal.Range{}, p.WAL...), WALBytes: p.WALBytes,
		RestoreBytes: p.RestoreBytes, SpaceBytes: p.SpaceBytes, Requests: p.Requests, Reachable: true,
		LastCommit: p.LastCommit, NextCommit: p.NextCommit, Settings: p.Settings(nil), Undone: p.Undone, Warnings: append([]string{}, p.Warnings...),
	}
}

// MarshalJSON implements json.Marshaler: it has the same members as a plan's.
func (e *UnreachableError) MarshalJSON() ([]byte, error) {
	return json.Marshal(planJSON{
		Target: e.Target, WAL: []wal.Range{}, Reason: &e.Reason, Missing: e.Missing,
		Nearest: nearestJSON{Before: e.Before, After: e.After}, Instead: e.Instead, Means: e.Means, Warnings: []string{},
	})
}

// MarshalJSON implements json.Marshaler: the members of the plan, with all warnings, and what became of it.
func (r *Result) MarshalJSON() ([]byte, error) {
	p := r.Plan.json()
	p.Warnings, p.Settings = append(p.Warnings, r.Warnings...), nil // which settings there are is in the directory
	return json.Marshal(struct {
		planJSON
		Directory     string  `json:"directory"`
		RestoredBytes int64   `json:"restored_bytes"`
		ReusedBytes   int64   `json:"reused_bytes"`
		Segments      int     `json:"segments"`
		Took          float64 `json:"duration_seconds"`
	}{p, r.Directory, r.RestoredBytes, r.ReusedBytes, r.Segments, r.Took.Seconds()})
}

// String describes the plan in a few lines.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "recover %s, on timeline %d\n", p.Target, p.Timeline)
	fmt.Fprintf(&b, "  backup   %s: %s, %d files of %d bytes, consistent from %s at %s\n", p.Backup.ID, p.Backup.Type,
		p.Backup.Files, p.RestoreBytes, p.Backup.StopLSN, p.Backup.StoppedAt.Format("2006-01-02 15:04:05Z07:00"))
	for _, r := range p.WAL {
		fmt.Fprintf(&b, "  WAL      %s to %s\n", r.First, r.Last)
	}
	for _, c := range []struct {
		what string
		e    *wal.Event
	}{{"last in", p.LastCommit}, {"not in", p.NextCommit}} {
		if c.e != nil {
			fmt.Fprintf(&b, "  %-8s transaction %d, committed at %s (%s)\n", c.what, c.e.XID, c.e.Time.Format(time.RFC3339Nano), c.e.LSN)
		}
	}
	if p.Undone != nil {
		p.Undone.describe(&b)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "  warning  %s\n", w)
	}
	return b.String()
}
