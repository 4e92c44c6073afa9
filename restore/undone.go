package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Undone is what a recovery leaves out of what was done on its timeline, as far as that is archived.
type Undone struct {
	Commits wal.Commits `json:"commits"`
	Events  []Loss      `json:"events"` // in the order of the WAL
}

// Loss is an event after which something was gone, or a database there, which recovery undoes.
type Loss struct {
	wal.Event
	Names []string `json:"names,omitempty"` // of its relations, as far as a backup knows them, but those of TOAST
}

// undone tells what the archive holds from where recovery ends on.
func (p *Plan) undone(ctx context.Context, r *repo.Repo, a *wal.Archive, c wal.Coverage) (*Undone, error) {
	u := &Undone{Events: []Loss{}}
	var events []wal.Event
	var err error
	if u.Commits, events, err = a.Following(ctx, c, heldOn(c, p.Timeline), p.stop); err != nil {
		return nil, err
	}
	namer, err := backup.NewNamer(ctx, r, &backup.NamerOptions{SystemID: c.System.ID})
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	for _, e := range events {
		switch e.Kind {
		case wal.EventDrop, wal.EventTruncate, wal.EventDatabaseCreate, wal.EventDatabaseDrop:
			names, err := namesOf(ctx, namer, e)
			if err != nil {
				return nil, err
			}
			u.Events = append(u.Events, Loss{Event: e, Names: names})
		}
	}
	return u, nil
}

func namesOf(ctx context.Context, namer *backup.Namer, e wal.Event) ([]string, error) {
	var names []string
	for _, rel := range e.Relations {
		known, ok, err := namer.Name(ctx, e.LSN, rel)
		if err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		if name := known.Schema + "." + known.Name; ok && known.Schema != "pg_toast" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// describe says it in a few lines.
func (u *Undone) describe(b *strings.Builder) {
	const shown = 10
	if u.Commits.Count == 0 {
		b.WriteString("  undone   nothing that is archived\n")
		return
	}
	fmt.Fprintf(b, "  undone   %d commits, from %s to %s\n", u.Commits.Count, u.Commits.First.Format(time.RFC3339Nano), u.Commits.Last.Format(time.RFC3339Nano))
	for i, e := range u.Events {
		if i == shown {
			fmt.Fprintf(b, "  undone   and %d more drops and truncations\n", len(u.Events)-shown)
			break
		}
		fmt.Fprintf(b, "  undone   %s at %s", e.Kind, e.LSN)
		if e.XID != 0 {
			fmt.Fprintf(b, " by transaction %d", e.XID)
		}
		if len(e.Names) > 0 {
			fmt.Fprintf(b, ": %s", strings.Join(e.Names, ", "))
		}
		b.WriteString("\n")
	}
}

// heldOn is the WAL that is held on the way to a timeline, or of it alone where the way is not known.
func heldOn(c wal.Coverage, t wal.Timeline) []wal.Range {
	if way, ok := c.Way(t); ok {
		return way
	}
	if own := c.Timeline(t); own != nil {
		return own.Held()
	}
	return nil
}
