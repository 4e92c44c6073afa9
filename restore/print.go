package restore

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// planJSON is the stable JSON form of a plan, and of the lack of one.
type planJSON struct {
	Backup       backup.ID    `json:"backup,omitempty"`
	Target       Target       `json:"target"`
	Timeline     wal.Timeline `json:"timeline,omitempty"`
	WAL          []rangeJSON  `json:"wal"`
	WALBytes     int64        `json:"wal_bytes"`
	RestoreBytes int64        `json:"restore_bytes"`
	Requests     int          `json:"requests"`
	Reachable    bool         `json:"reachable"`
	Reason       string       `json:"reason,omitempty"`
	Missing      []rangeJSON  `json:"missing,omitempty"`
	Nearest      nearestJSON  `json:"nearest"`
	Warnings     []string     `json:"warnings"`
}

type rangeJSON struct {
	Timeline wal.Timeline `json:"timeline"`
	From     string       `json:"from"` // segment
	To       string       `json:"to"`   // segment, in the range
}

type nearestJSON struct {
	Before *Point `json:"before"`
	After  *Point `json:"after"`
}

func rangesJSON(rs []wal.Range) []rangeJSON {
	out := make([]rangeJSON, 0, len(rs))
	for _, r := range rs {
		out = append(out, rangeJSON{Timeline: r.First.Timeline, From: r.First.Name(), To: r.Last.Name()})
	}
	return out
}

// MarshalJSON implements json.Marshaler.
func (p *Plan) MarshalJSON() ([]byte, error) {
	return json.Marshal(planJSON{
		Backup: p.Backup.ID, Target: p.Target, Timeline: p.Timeline, WAL: rangesJSON(p.WAL), WALBytes: p.WALBytes,
		RestoreBytes: p.RestoreBytes, Requests: p.Requests, Reachable: true, Warnings: append([]string{}, p.Warnings...),
	})
}

// MarshalJSON implements json.Marshaler: it has the same members as a plan's.
func (e *UnreachableError) MarshalJSON() ([]byte, error) {
	return json.Marshal(planJSON{
		Target: e.Target, WAL: rangesJSON(nil), Reason: e.Reason, Missing: rangesJSON(e.Missing),
		Nearest: nearestJSON{Before: e.Before, After: e.After}, Warnings: []string{},
	})
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
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "  warning  %s\n", w)
	}
	return b.String()
}
