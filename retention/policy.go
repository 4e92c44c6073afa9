package retention

import (
	"fmt"
	"time"
)

// Policy says what to keep. A backup is kept when any rule wants it; a policy without a rule for backups keeps all of
// them. Numbers count what can be restored: a backup whose WAL is missing is kept beside those that a rule counts, and
// takes no one's place.
//
// Every backup restores by itself, whatever its type: dropping a full backup never costs one that was built on it, whose
// packs stay. So rules are free to keep an incremental backup without its parent.
type Policy struct {
	// KeepLast keeps that many of the newest backups of each cluster.
	KeepLast int `json:"keep_last,omitempty"`

	// KeepFull keeps that many of the newest full backups, and every backup that ended after the oldest of these, as
	// pgBackRest's repo-retention-full does. Where there are fewer full ones, it keeps all backups.
	KeepFull int `json:"keep_full,omitempty"`

	// KeepDifferential narrows what KeepFull keeps, as pgBackRest's repo-retention-diff does: of the differential backups
	// only those among that many newest full and differential ones, and of the incremental ones only those that were
	// built, over others or not, on a backup that is kept so. Full ones count, and none of them is dropped by it. It is no
	// rule by itself: without KeepFull it is refused.
	KeepDifferential int `json:"keep_differential,omitempty"`

	// KeepHourly, and so on, keep the newest backup of each of that many latest hours, days, ISO weeks, months and years
	// in which a backup ended. Periods without one do not count.
	KeepHourly  int `json:"keep_hourly,omitempty"`
	KeepDaily   int `json:"keep_daily,omitempty"`
	KeepWeekly  int `json:"keep_weekly,omitempty"`
	KeepMonthly int `json:"keep_monthly,omitempty"`
	KeepYearly  int `json:"keep_yearly,omitempty"`

	// Zone is where the calendar is that these periods are of; the zero Zone is UTC. An hour that a change of the clocks
	// repeats is two hours.
	Zone Zone `json:"time_zone,omitzero"`

	// KeepWithin keeps the backups that ended within that duration before now.
	KeepWithin time.Duration `json:"keep_within,omitempty"`

	// Window keeps what it takes to recover to any moment of that duration before now: the backups that ended within
	// it and, on the way to each timeline that lived on into it, the newest that ended before.
	Window time.Duration `json:"window,omitempty"`

	// KeepWAL keeps the WAL of that duration before now. The default, 0, keeps it as long as backups: all that recovery
	// from a kept backup on can read, on the way to any timeline.
	//
	// Where backups are kept longer, WAL is kept from the newest of them that ended before that duration on; an older one
	// keeps only what makes it consistent, and can be restored to where it ended. Where they are not kept as long, older
	// WAL is kept that no backup leads to any more: it can be searched. How old WAL is, kept backups and the times of the
	// coverage tell; what may be younger is kept.
	KeepWAL time.Duration `json:"keep_wal,omitempty"`
}

// PolicyError means that a policy cannot be meant.
type PolicyError struct {
	Field  string // in JSON
	Reason string
}

func (e *PolicyError) Error() string { return fmt.Sprintf("retention: %s %s", e.Field, e.Reason) }

// Validate tells whether a policy can be meant. The error is a *[PolicyError].
func (p Policy) Validate() error {
	for _, c := range p.counts() {
		if c.n < 0 {
			return &PolicyError{Field: c.field, Reason: fmt.Sprintf("is %d: give how many to keep, or 0 for no such rule", c.n)}
		}
	}
	for _, d := range []struct {
		field string
		d     time.Duration
	}{{"keep_within", p.KeepWithin}, {"window", p.Window}, {"keep_wal", p.KeepWAL}} {
		if d.d < 0 {
			return &PolicyError{Field: d.field, Reason: fmt.Sprintf("is %s: give a duration before now, or 0 for no such rule", d.d)}
		}
	}
	if p.KeepDifferential > 0 && p.KeepFull == 0 {
		return &PolicyError{Field: "keep_differential", Reason: "narrows keep_full, which is not given: give both, or keep_last"}
	}
	if p.KeepWAL > 0 && p.KeepWAL < p.Window {
		return &PolicyError{Field: "keep_wal", Reason: fmt.Sprintf("is %s, and the window of %s needs WAL for as long: shorten the window, or keep WAL longer",
			p.KeepWAL, p.Window)}
	}
	return nil
}

type count struct {
	field string
	n     int
}

func (p Policy) counts() []count {
	return []count{
		{"keep_last", p.KeepLast},
		{"keep_full", p.KeepFull},
		{"keep_differential", p.KeepDifferential},
		{"keep_hourly", p.KeepHourly},
		{"keep_daily", p.KeepDaily},
		{"keep_weekly", p.KeepWeekly},
		{"keep_monthly", p.KeepMonthly},
		{"keep_yearly", p.KeepYearly},
	}
}

// keepsAll tells whether there is no rule for backups.
func (p Policy) keepsAll() bool {
	for _, c := range p.counts() {
		if c.n > 0 {
			return false
		}
	}
	return p.KeepWithin == 0 && p.Window == 0
}
