package backup

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// Report is what [Verify] has found.
type Report struct {
	Whole    bool // it is of the whole repository: of all its backups, and their manifests could be read
	ReadData bool // content was to be read, and could be
	Backups  int  // whose manifests were read

	Objects int   // that were verified: by being there, or by their content
	Bytes   int64 // of them, as stored

	ReadObjects    int       // whose content was read in this run, besides records and manifests
	ReadBytes      int64     // of them, as stored
	SkippedObjects int       // whose content was read lately, and not in this run
	SkippedBytes   int64     // of them
	SkippedSince   time.Time // when the first of these were read
	LeftObjects    int       // that were due and not read: the sample was full
	LeftBytes      int64     // of them

	Orphans     int   // packs that no manifest names, see [Orphans]: nobody needs them
	OrphanBytes int64 // of them

	Problems []Problem   // by key
	Gaps     []wal.Range // segments that are missing and cost nothing, or are meant to be missing
	Lost     Cost        // what all problems together cost
	Notes    []string    // what was not verified, and why

	BeganAt time.Time
	EndedAt time.Time
}

// Cost is what a problem takes from those who want to recover.
type Cost struct {
	Backups []ID   `json:"backups"` // that cannot be restored
	Spans   []Span `json:"spans"`   // that cannot be recovered
}

// Problem is an object that is not what it should be, and what that costs, were it the only one.
type Problem struct {
	Key string
	Err error
	Cost
}

// Span is a stretch of a cluster's life.
type Span struct {
	SystemID uint64       `json:"system_id,string"`
	Timeline wal.Timeline `json:"timeline"`
	FromLSN  wal.LSN      `json:"from_lsn"`
	ToLSN    wal.LSN      `json:"to_lsn"` // behind it
	// FromTime is the last moment before it that is known, and ToTime the first behind it, or the last in it where nothing
	// comes behind; zero where that is not known.
	FromTime time.Time `json:"from_time,omitzero"`
	ToTime   time.Time `json:"to_time,omitzero"`

	endsFor []ID
}

// Ends are the backups from which recovery ends where the span begins.
func (s Span) Ends() []ID { return slices.Clone(s.endsFor) }

// OK tells that there is no problem.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// MarshalJSON implements json.Marshaler.
func (s Span) MarshalJSON() ([]byte, error) {
	type plain Span
	return json.Marshal(struct {
		plain

		Ends []ID `json:"recovery_ends_for"`
	}{plain(s), append([]ID{}, s.endsFor...)})
}

// MarshalJSON implements json.Marshaler.
func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Key   string `json:"key"`
		Error string `json:"error"`
		Cost
	}{p.Key, p.Err.Error(), p.whole()})
}

// whole has no nil lists.
func (c Cost) whole() Cost {
	return Cost{Backups: append([]ID{}, c.Backups...), Spans: append([]Span{}, c.Spans...)}
}

// MarshalJSON implements json.Marshaler. Durations are in seconds.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		OK             bool        `json:"ok"`
		Whole          bool        `json:"whole"`
		ReadData       bool        `json:"read_data"`
		Backups        int         `json:"backups"`
		Objects        int         `json:"objects"`
		Bytes          int64       `json:"bytes"`
		ReadObjects    int         `json:"read_objects"`
		ReadBytes      int64       `json:"read_bytes"`
		SkippedObjects int         `json:"skipped_objects"`
		SkippedBytes   int64       `json:"skipped_bytes"`
		SkippedSince   time.Time   `json:"skipped_since,omitzero"`
		LeftObjects    int         `json:"left_objects"`
		LeftBytes      int64       `json:"left_bytes"`
		Orphans        int         `json:"orphans"`
		OrphanBytes    int64       `json:"orphan_bytes"`
		Problems       []Problem   `json:"problems"`
		Gaps           []wal.Range `json:"gaps"`
		Lost           Cost        `json:"lost"`
		Notes          []string    `json:"notes"`
		BeganAt        time.Time   `json:"began_at"`
		Seconds        float64     `json:"duration_seconds"`
	}{
		r.OK(), r.Whole, r.ReadData, r.Backups, r.Objects, r.Bytes, r.ReadObjects, r.ReadBytes, r.SkippedObjects, r.SkippedBytes,
		r.SkippedSince, r.LeftObjects, r.LeftBytes, r.Orphans, r.OrphanBytes, append([]Problem{}, r.Problems...),
		append([]wal.Range{}, r.Gaps...), r.Lost.whole(), append([]string{}, r.Notes...), r.BeganAt, r.EndedAt.Sub(r.BeganAt).Seconds(),
	})
}

// skip counts an object that was read lately.
func (r *Report) skip(size int64, at time.Time) {
	r.SkippedObjects++
	r.SkippedBytes += size
	if r.SkippedSince.IsZero() || at.Before(r.SkippedSince) {
		r.SkippedSince = at
	}
}

// conclude enters the problems; losses may be nil, for a run that has failed.
func (r *Report) conclude(v *verifier, losses map[string]*loss) {
	for key, f := range v.findings {
		r.Problems = append(r.Problems, Problem{Key: key, Err: f.err})
	}
	slices.SortFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Key, b.Key) })
	if losses == nil {
		return
	}
	v.known = v.clusters()
	total := newLoss()
	for _, c := range v.known {
		for i := range r.Problems {
			p := &r.Problems[i]
			l := losses[p.Key]
			total.add(l)
			if i < maxCosts {
				lost, spans := c.of(l)
				p.Backups, p.Spans = append(p.Backups, lost...), append(p.Spans, spans...)
			}
		}
	}
	for i := range r.Problems { // whose manifests cannot be read
		p := &r.Problems[i]
		for id := range losses[p.Key].backups {
			if !slices.Contains(p.Backups, id) {
				p.Backups = append(p.Backups, id)
			}
		}
		slices.Sort(p.Backups)
	}
	var missing []Problem
	for _, c := range v.known {
		missing = append(missing, v.forgotten(c)...)
		r.Gaps = append(r.Gaps, c.gaps...)
		for _, gap := range c.missing {
			l := newLoss()
			l.flaw(c.system, flaw{run: &gap})
			lost, spans := c.of(l)
			if len(lost) == 0 && len(spans) == 0 || v.chosen != nil && len(lost) == 0 && !v.reaches(c, gap) {
				r.Gaps = append(r.Gaps, gap)
				continue
			}
			total.add(l)
			err := errGone
			if gap.First != gap.Last {
				err = fmt.Errorf("it is missing, with all up to %s, %d segments", gap.Last, gap.Last.Number-gap.First.Number+1)
			}
			missing = append(missing, Problem{Key: keyOf(c.system, gap.First), Err: err, Cost: Cost{lost, spans}})
		}
	}
	r.Problems = append(r.Problems, missing...)
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Key, b.Key) })
	for _, c := range v.known {
		lost, spans := c.of(total)
		r.Lost.Backups, r.Lost.Spans = append(r.Lost.Backups, lost...), append(r.Lost.Spans, spans...)
	}
	for _, p := range missing {
		if strings.HasSuffix(p.Key, ".history") {
			r.Lost.Spans = append(r.Lost.Spans, p.Spans...)
		}
	}
	for id := range total.backups {
		if !slices.Contains(r.Lost.Backups, id) {
			r.Lost.Backups = append(r.Lost.Backups, id)
		}
	}
	slices.Sort(r.Lost.Backups)
}

// reaches tells whether recovery from a chosen backup would come to a gap.
func (v *verifier) reaches(c *costs, gap wal.Range) bool {
	return slices.ContainsFunc(c.backups, func(b *Summary) bool { return b.FirstSegment().Start() <= gap.First.Start() })
}

// String describes the report: the verdict first, then what is lost, and what was found.
func (r *Report) String() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.OK() {
		b.WriteString("verify: ok\n")
	} else {
		fmt.Fprintf(&b, "verify: %s\n", count(len(r.Problems), "PROBLEM"))
	}
	if n := len(r.Lost.Backups); n > 0 {
		row("lost", "%s: %s", count(n, "backup"), some(r.Lost.Backups))
	}
	for _, s := range r.Lost.Spans {
		row("lost", "%s", s)
	}
	if !r.OK() && len(r.Lost.Backups)+len(r.Lost.Spans) == 0 {
		row("lost", "nothing that a recovery needs")
	}
	row("objects", "%d, %d bytes; %s", r.Objects, r.Bytes, count(r.Backups, "backup"))
	switch {
	case !r.ReadData:
		row("content", "not read, but for manifests and records")
	default:
		row("content", "%s read, %d bytes", count(r.ReadObjects, "object"), r.ReadBytes)
	}
	if r.SkippedObjects > 0 {
		row("", "%s, %d bytes, not read again: right when last read, since %s", count(r.SkippedObjects, "object"), r.SkippedBytes,
			r.SkippedSince.UTC().Format(time.RFC3339))
	}
	if r.LeftObjects > 0 {
		row("", "%s, %d bytes, are due and were not in the sample", count(r.LeftObjects, "object"), r.LeftBytes)
	}
	if r.Orphans > 0 {
		row("orphans", "%s, %d bytes, that no backup names", count(r.Orphans, "pack"), r.OrphanBytes)
	}
	for _, g := range r.Gaps {
		row("gap", "%s to %s", g.First, g.Last)
	}
	for _, n := range r.Notes {
		row("note", "%s", n)
	}
	for _, p := range r.Problems {
		row("problem", "%s: %s", p.Key, p.Err)
		if len(p.Backups) > 0 {
			row("", "  costs %s: %s", count(len(p.Backups), "backup"), some(p.Backups))
		}
		for _, s := range p.Spans {
			row("", "  costs %s", s)
		}
		if len(p.Backups)+len(p.Spans) == 0 {
			row("", "  costs nothing that a recovery needs")
		}
	}
	return b.String()
}

// String describes the span.
func (s Span) String() string {
	text := fmt.Sprintf("timeline %d, %s to %s", s.Timeline, s.FromLSN, s.ToLSN)
	if !s.FromTime.IsZero() {
		text += ", after " + s.FromTime.UTC().Format(time.RFC3339)
	}
	if !s.ToTime.IsZero() {
		text += ", up to " + s.ToTime.UTC().Format(time.RFC3339)
	}
	if len(s.endsFor) > 0 {
		text += "; recovery ends there from " + some(s.endsFor)
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// some are a few of many.
func some(ids []ID) string {
	const most = 8
	var b strings.Builder
	for i, id := range ids {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(ids)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(id))
	}
	return b.String()
}
