package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
)

// summaryDoc is a backup as it is printed: every member that scripts rely on is there, also one that is none.
type summaryDoc struct {
	*backup.Summary
	Parent *backup.ID `json:"parent"`
	Reused int64      `json:"reused_bytes"`
}

func newSummaryDoc(s *backup.Summary) summaryDoc {
	d := summaryDoc{Summary: s, Reused: s.ReusedBytes}
	if s.Parent != "" {
		d.Parent = &s.Parent
	}
	return d
}

func (d summaryDoc) print(w *strings.Builder) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("backup", "%s", d.ID)
	row("type", "%s", d.Type)
	if d.Parent != nil {
		row("parent", "%s, changes found by %s", *d.Parent, d.Method)
	}
	if d.Reason != "" {
		row("reason", "%s", d.Reason)
	}
	row("server", "PostgreSQL %s, system identifier %d, timeline %d", pgVersion(d.PGVersion), d.SystemID, d.Timeline)
	row("from", "%s at %s", d.StartLSN, moment(d.StartedAt))
	row("to", "%s at %s", d.StopLSN, moment(d.StoppedAt))
	row("size", "%d files, %s; read %s, stored %s", d.Files, size(d.ClusterBytes), size(d.ReadBytes), size(d.StoredBytes))
	if d.Reused > 0 {
		row("reused", "%s, which killed backups had stored", size(d.Reused))
	}
	if d.BadPages > 0 {
		row("damaged", "%d pages of the cluster do not match their checksum", d.BadPages)
	}
	if d.Pinned {
		row("pinned", "yes")
	}
	for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
		row("label", "%s=%s", k, d.Labels[k])
	}
}
