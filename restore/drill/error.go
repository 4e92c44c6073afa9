package drill

import (
	"fmt"
	"strings"
)

// Phase is a part of a drill.
type Phase string

// The phases of a drill, in order.
const (
	PhasePlan     Phase = "plan"     // choosing the backup and the WAL, and finding the server's programs
	PhaseRestore  Phase = "restore"  // fetching and writing all of it
	PhaseRecovery Phase = "recovery" // booting the server, until it has recovered
	PhaseCheck    Phase = "check"    // asking it
	PhaseCleanup  Phase = "cleanup"  // removing everything again
)

// Error is what a drill has found wrong, or what kept it from finding out. What of it a caller may act on is in Err, such
// as a *[restore.UnreachableError], a *[repo.CorruptError], or one of this package.
type Error struct {
	Phase Phase
	Err   error
}

func (e *Error) Error() string { return "drill: " + string(e.Phase) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ServerError means that the server did not boot, or ended before it should. Its Log tells why.
type ServerError struct {
	Err error    // how it ended; nil when it ended without an error
	Log []string // the last lines that it printed
}

func (e *ServerError) Error() string {
	text := "the server ended"
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if said := lastWords(e.Log); said != "" {
		text += "; it said: " + said
	}
	return text
}

func (e *ServerError) Unwrap() error { return e.Err }

// lastWords is the last line of a log that tells of a reason to end.
func lastWords(log []string) string {
	for _, severity := range []string{"PANIC:", "FATAL:", "ERROR:"} {
		for i := len(log) - 1; i >= 0; i-- {
			if _, text, ok := strings.Cut(log[i], severity); ok {
				return severity + " " + strings.TrimSpace(text)
			}
		}
	}
	if len(log) == 0 {
		return ""
	}
	return log[len(log)-1]
}

// ElsewhereError means that recovery has ended somewhere else than at its target.
type ElsewhereError struct {
	Reason string
}

func (e *ElsewhereError) Error() string { return "recovery ended elsewhere: " + e.Reason }

// DamageError means that recovery found pages of relations that are not what the WAL says, and went on, since
// ignore_invalid_pages is on where only some databases or tables are restored. It is not of those that are left out.
type DamageError struct {
	Paths []string // of the relations' files, below the data directory
}

func (e *DamageError) Error() string {
	return "recovery ignored pages that are missing, or zero, of what was restored: " + strings.Join(e.Paths, ", ")
}

// CheckError means that checks have failed. The report has all of them.
type CheckError struct {
	Failed []CheckResult
	Of     int // checks that there were
}

func (e *CheckError) Error() string {
	f := e.Failed[0]
	return fmt.Sprintf("%d of %d checks failed; the first is %s: %s", len(e.Failed), e.Of, f.Name, f.Problems[0])
}

// BinaryError means that there are no programs of the major version of the backup. Nothing was fetched.
type BinaryError struct {
	Major  int
	Looked []string // the directories where they were looked for, with what is there instead
}

func (e *BinaryError) Error() string {
	return fmt.Sprintf("the backup needs PostgreSQL %d, and there is: %s", e.Major, strings.Join(e.Looked, "; "))
}

// UserError means that the server cannot run as a user of the operating system. Nothing was fetched.
type UserError struct {
	User   string // empty when none was given
	Reason string
}

func (e *UserError) Error() string {
	if e.User == "" {
		return e.Reason
	}
	return fmt.Sprintf("user %s: %s", e.User, e.Reason)
}

// BusyError means that another drill is going on in a directory, or that the server of one that was killed still runs.
type BusyError struct {
	Directory string
	PID       int // of that server; 0 when a drill is going on
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return "another drill is going on in " + e.Directory
	}
	return fmt.Sprintf("the server of a drill that was killed, process %d, still runs in %s: end it, and try again", e.PID, e.Directory)
}
