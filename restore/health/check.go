package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// Options are the options of [Check]. A nil *Options, and the zero value of each field, is its default: no threshold.
type Options struct {
	MaxBackupAge time.Duration // of the newest backup that can be restored, since it was complete
	MaxWALLag    time.Duration // since WAL was archived the last time
	MaxVerifyAge time.Duration // since the last verification of all, with nothing left for later, that found nothing
	MaxReadAge   time.Duration // since the last of these that has read content, as far as it was due
}

// growthSpan is over how long growth is told.
const growthSpan = 7 * 24 * time.Hour

// Check tells of the health of a repository, and of the cluster that it belongs to now. It changes nothing. What is wrong
// is a problem in the status; only what kept it from being told is an error: a store that fails is never "no backup".
//
// It takes a request for each backup, one for each thousand of them and of segments of WAL, two for each lease, one for
// each receipt of a verification, which are 40 at most, and about a dozen besides; packs are not listed, and no WAL is
// read. An encrypted repository takes an identity.
func Check(ctx context.Context, r *repo.Repo, o *Options) (*Status, error) {
	if o == nil {
		o = &Options{}
	}
	c := &checker{repo: r, options: *o, status: &Status{
		At: r.Now().UTC(), Problems: []Problem{}, Windows: []restore.Window{}, WAL: WAL{Gaps: []wal.Range{}}, Leases: []repo.LeaseInfo{},
	}}
	for _, step := range []func(context.Context) error{c.look, c.archived, c.backups, c.receipts, c.rest} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("health: %w", err)
		}
	}
	c.status.OK = len(c.status.Problems) == 0
	return c.status, nil
}

// checker is a check under way.
type checker struct {
	repo    *repo.Repo
	options Options
	status  *Status

	archive  *wal.Archive
	coverage wal.Coverage
	all      []*backup.Summary // of the cluster, by when they were complete
}

func (c *checker) problem(kind Kind, format string, args ...any) {
	c.status.Problems = append(c.status.Problems, Problem{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// damaged makes a problem of what is corrupt, and passes on what says nothing.
func (c *checker) damaged(kind Kind, err error) error {
	var corrupt *repo.CorruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	c.problem(kind, "%v", err)
	return nil
}

// look finds out what there is.
func (c *checker) look(ctx context.Context) (err error) {
	if c.archive, err = wal.NewArchive(c.repo, nil); err != nil {
		return err
	}
	// Backups first: the WAL of one that is listed is there.
	all, err := backup.List(ctx, c.repo)
	var unreadable *backup.UnreadableError
	if err != nil && !errors.As(err, &unreadable) {
		return err
	}
	if err != nil {
		c.problem(KindBackup, "%v", err)
	}
	if c.coverage, err = c.archive.Coverage(ctx); err != nil {
		return err
	}
	for _, b := range all {
		if b.SystemID == c.coverage.System.ID {
			c.all = append(c.all, b)
		}
	}
	// One of a time to come was taken by a clock that was wrong, and must not pass for the newest for ever.
	slices.SortStableFunc(c.all, func(a, b *backup.Summary) int {
		if x, y := c.ahead(a.StoppedAt), c.ahead(b.StoppedAt); x != y {
			return map[bool]int{true: -1, false: 1}[x]
		}
		return a.StoppedAt.Compare(b.StoppedAt)
	})
	c.status.Windows = append(c.status.Windows, restore.Windows(c.all, c.coverage)...)
	return nil
}

// archived tells of the WAL.
func (c *checker) archived(ctx context.Context) error {
	w := &c.status.WAL
	var last wal.Segment
	for _, t := range c.coverage.Timelines {
		w.Bytes += t.Bytes
		switch held := t.Held(); {
		case t.Partial != nil:
			last, w.Timeline, w.EndLSN = t.Partial.Segment, t.Timeline, t.Partial.End
		case len(held) > 0:
			last, w.Timeline, w.EndLSN = held[len(held)-1].Last, t.Timeline, held[len(held)-1].Last.End()
		}
	}
	w.Gaps = append(w.Gaps, c.coverage.Gaps()...)
	if w.Timeline == 0 {
		if c.options.MaxWALLag > 0 {
			c.problem(KindWALLag, "no WAL is archived")
		}
		return nil
	}
	at, err := c.archive.ArchivedAt(ctx, last)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("WAL that was listed is gone: it changes just now: %w", errChanged)
	}
	if err != nil {
		return err
	}
	lag := c.since(at)
	seconds := lag.Seconds()
	w.LagSeconds = &seconds
	if most := c.options.MaxWALLag; most > 0 && lag > most {
		c.problem(KindWALLag, "WAL was archived %s ago the last time, which was to be no more than %s", lag.Round(time.Second), most)
	}
	return nil
}

// errChanged means that what was listed is gone.
var errChanged = errors.New("try again")

// backups tells which backups can be restored, and whether all from the newest on can be recovered.
func (c *checker) backups(ctx context.Context) error {
	c.status.Backups = len(c.all)
	for _, b := range slices.Backward(c.all) {
		switch windows := restore.Windows([]*backup.Summary{b}, c.coverage); {
		case len(windows) == 0:
			c.problem(KindBackup, "backup %s cannot be restored: of the WAL from %s to %s some is missing", b.ID, b.FirstSegment(), b.LastSegment())
		case c.status.NewestBackup == nil:
			c.newest(b, windows)
		}
	}
	if c.status.NewestBackup == nil {
		c.problem(KindNoBackup, "there is no backup that can be restored")
	}
	return c.grown(ctx)
}

// newest tells of the newest backup that can be restored.
func (c *checker) newest(b *backup.Summary, windows []restore.Window) {
	age := c.since(b.StoppedAt)
	c.status.NewestBackup = &Backup{Summary: b, AgeSeconds: age.Seconds()}
	switch most := c.options.MaxBackupAge; {
	case most <= 0:
	case c.ahead(b.StoppedAt):
		c.problem(KindBackupAge, "the newest backup, %s, is of a time to come, %s: a clock is, or was, wrong", b.ID, b.StoppedAt.UTC().Format(time.RFC3339))
	case age > most:
		c.problem(KindBackupAge, "the newest backup, %s, is %s old, which was to be no more than %s", b.ID, age.Round(time.Second), most)
	}
	c.reach(windows)
}

// reach notes when the windows that the newest backup begins do not lead to the end of the WAL.
func (c *checker) reach(windows []restore.Window) {
	w := c.status.WAL
	for _, x := range windows {
		if x.Timeline == w.Timeline && x.ToLSN >= w.EndLSN {
			return
		}
	}
	x := windows[len(windows)-1]
	c.problem(KindWALGap, "from the newest backup, WAL leads to %s of timeline %d, and is archived to %s of timeline %d: some is missing between, and a backup now would help",
		x.ToLSN, x.Timeline, w.EndLSN, w.Timeline)
}

// grown sums up sizes: what the oldest backup needs, whoever has written it, and what the others have added.
func (c *checker) grown(ctx context.Context) error {
	s := c.status
	s.StoredBytes = s.WAL.Bytes
	var raw int64
	for _, t := range c.coverage.Timelines {
		raw += int64(t.Segments) * int64(c.coverage.System.SegmentSize)
	}
	since := s.At.Add(-growthSpan)
	var first *backup.Summary
	var oldest backup.ID
	for _, b := range c.all {
		if oldest == "" || b.ID < oldest {
			oldest = b.ID
		}
	}
	for _, b := range c.all {
		if b.ID == oldest && b.Type != backup.Full {
			needs, err := c.needs(ctx, b)
			if err != nil {
				return err
			}
			s.StoredBytes += needs
		} else {
			s.StoredBytes += b.StoredBytes + b.ReusedBytes
		}
		if b.StoppedAt.Before(since) {
			continue
		}
		s.Growth.BackupBytes += b.StoredBytes
		if first == nil {
			first = b
		}
	}
	if first == nil {
		return nil
	}
	s.Growth.Seconds = c.since(first.StoppedAt).Seconds()
	if raw > 0 && s.WAL.EndLSN > first.StopLSN {
		s.Growth.WALBytes = int64(float64(s.WAL.EndLSN-first.StopLSN) * float64(s.WAL.Bytes) / float64(raw))
		s.Growth.WALBytes = min(s.Growth.WALBytes, s.WAL.Bytes)
	}
	return nil
}

// needs is how much is stored of what a backup needs.
func (c *checker) needs(ctx context.Context, b *backup.Summary) (sum int64, err error) {
	m, err := backup.Load(ctx, c.repo, b.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("a backup that was listed is gone: it changes just now: %w", errChanged)
	case repo.Unreadable(err):
		c.problem(KindBackup, "%v", err)
		return b.StoredBytes, nil
	case err != nil:
		return 0, err
	}
	for i := range m.PackList {
		sum += m.PackList[i].Size
	}
	return sum, nil
}

// receipts tells of verifications and drills.
func (c *checker) receipts(ctx context.Context) error {
	all, err := backup.Receipts(ctx, c.repo, backup.ReceiptVerify)
	if err := c.damaged(KindDamage, err); err != nil {
		return err
	}
	c.verified(all)
	last, err := backup.LastReceipt(ctx, c.repo, backup.ReceiptDrill)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := c.damaged(KindDamage, err); err != nil || last == nil {
		return err
	}
	c.status.LastDrill = c.receipt(last)
	if !last.OK {
		c.problem(KindDrill, "the last drill failed: %s", last.Problem)
	}
	return nil
}

// verified tells of verifications, the newest first.
func (c *checker) verified(all []*backup.Receipt) {
	var found, whole, read *backup.Receipt
	for i, t := range all {
		again := slices.ContainsFunc(all[:i], func(later *backup.Receipt) bool { return later.Covers(t) })
		if found == nil && !t.OK && !again { // which one of another kind, that is OK, does not undo
			found = t
		}
		if whole == nil && t.OK && t.Whole && t.Left == 0 && !c.ahead(t.EndedAt) {
			whole = t
		}
		if read == nil && t.OK && t.Whole && t.ReadData && t.Left == 0 && !c.ahead(t.EndedAt) {
			read = t
		}
	}
	if len(all) > 0 {
		c.status.LastVerify = c.receipt(all[0])
	}
	if found != nil {
		which := "the last verification"
		if found != all[0] {
			which = "a verification, which none as thorough has followed,"
		}
		c.problem(KindVerify, "%s found %d problems: %s", which, found.Problems, found.Problem)
	}
	if len(all) == 0 && (c.options.MaxVerifyAge > 0 || c.options.MaxReadAge > 0) {
		c.problem(KindVerifyAge, "it was never verified")
		return
	}
	c.verifiedBy(whole, c.options.MaxVerifyAge, "verification of all", "all was verified")
	c.verifiedBy(read, c.options.MaxReadAge, "verification of all content", "all content was verified")
}

// verifiedBy notes when the last receipt of a kind is too old, or there is none.
func (c *checker) verifiedBy(t *backup.Receipt, most time.Duration, what, done string) {
	switch {
	case most <= 0:
	case t == nil:
		c.problem(KindVerifyAge, "no %s is known that found nothing, and left nothing for later", what)
	case c.since(t.EndedAt) > most:
		c.problem(KindVerifyAge, "%s, and found right, %s ago the last time, which was to be no more than %s",
			done, c.since(t.EndedAt).Round(time.Second), most)
	}
}

func (c *checker) receipt(t *backup.Receipt) *Receipt {
	return &Receipt{Receipt: t, AgeSeconds: c.since(t.EndedAt).Seconds()}
}

// rest tells who works there, and how much room there is.
func (c *checker) rest(ctx context.Context) error {
	leases, err := c.repo.Leases(ctx, "")
	if err := c.damaged(KindDamage, err); err != nil {
		return err
	}
	for _, l := range leases {
		if c.repo.Now().Before(l.Expires) {
			c.status.Leases = append(c.status.Leases, l)
		}
	}
	space, err := repo.SpaceOf(c.repo.Store())
	switch {
	case err == nil:
		c.status.Space = &space
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	return nil
}

// skew is by how much clocks may differ.
const skew = 90 * time.Minute

// ahead tells whether a time is to come, by more than clocks differ.
func (c *checker) ahead(t time.Time) bool { return t.Sub(c.status.At) > skew }

// since is how long ago it was; clocks that differ a little do not make it negative.
func (c *checker) since(t time.Time) time.Duration { return max(0, c.status.At.Sub(t)) }
