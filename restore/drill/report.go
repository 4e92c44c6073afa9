package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/restore"
)

// Report is what a drill has found out.
type Report struct {
	Plan        *restore.Plan             // nil where there is none
	Unreachable *restore.UnreachableError // why; nil where there is one
	Server      string                    // version of the programs
	RecoveredTo *restore.Point            // behind the last record replayed, and when the last transaction in it ended; nil when it is not known
	Stopped     string                    // what the server said when it reached the target; empty at the end of the archive
	Checks      []CheckResult             // those that were made, in order

	RestoredBytes int64 // written to files
	Segments      int   // of WAL, staged

	PlanTook     time.Duration
	RestoreTook  time.Duration // with RecoveryTook, the recovery time
	RecoveryTook time.Duration // from the start of the server on
	CheckTook    time.Duration
	Took         time.Duration // all, with cleaning up

	OK      bool
	Phase   Phase    // that failed; empty when OK
	Problem string   // why; empty when OK
	Log     []string // the last lines that the server printed
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
		Stopped         string         `json:"stopped,omitempty"`
		Checks          []CheckResult  `json:"checks"`
		RestoredBytes   int64          `json:"restored_bytes"`
		Segments        int            `json:"segments"`
		PlanSeconds     float64        `json:"plan_seconds"`
		RestoreSeconds  float64        `json:"restore_seconds"`
		RecoverySeconds float64        `json:"recovery_seconds"`
		CheckSeconds    float64        `json:"check_seconds"`
		Seconds         float64        `json:"duration_seconds"`
		OK              bool           `json:"ok"`
		Phase           Phase          `json:"phase,omitempty"`
		Problem         string         `json:"problem,omitempty"`
		Log             []string       `json:"log"`
	}{
		plan, r.Server, r.RecoveredTo, r.Stopped, append([]CheckResult{}, r.Checks...), r.RestoredBytes, r.Segments,
		r.PlanTook.Seconds(), r.RestoreTook.Seconds(), r.RecoveryTook.Seconds(), r.CheckTook.Seconds(), r.Took.Seconds(),
		r.OK, r.Phase, r.Problem, append([]string{}, r.Log...),
	})
}

// String describes the drill in a few lines, with what the server printed where it failed.
func (r *Report) String() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if r.OK {
		b.WriteString("drill: ok\n")
	} else {
		fmt.Fprintf(&b, "drill: FAILED, phase %s: %s\n", r.Phase, r.Problem)
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
	if r.Stopped != "" {
		row("stopped", "%s", r.Stopped)
	}
	for _, c := range r.Checks {
		row("check", "%s", c)
		for _, p := range c.Problems {
			row("", "  %s", p)
		}
	}
	if r.RestoredBytes > 0 {
		row("restored", "%d bytes, %d segments", r.RestoredBytes, r.Segments)
	}
	row("took", "plan %.1f s, restore %.1f s, recovery %.1f s, checks %.1f s", r.PlanTook.Seconds(), r.RestoreTook.Seconds(),
		r.RecoveryTook.Seconds(), r.CheckTook.Seconds())
	if !r.OK {
		for _, line := range r.Log {
			row("log", "%s", line)
		}
	}
	return b.String()
}

// String describes what became of the check, but for its problems.
func (r CheckResult) String() string {
	verdict := "ok    "
	switch {
	case !r.OK:
		verdict = "FAILED"
	case r.Skipped != "":
		verdict = "--    "
	}
	text := verdict + " " + strings.Join(strings.Fields(r.Name), " ")
	if r.Database != "" {
		text += " in " + r.Database
	}
	if r.Rows > 0 {
		text += fmt.Sprintf(" (%d)", r.Rows)
	}
	if r.Skipped != "" {
		text += ": " + r.Skipped
	}
	return text
}
