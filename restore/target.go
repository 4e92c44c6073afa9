package restore

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Kind is what a Target is measured by.
type Kind string

// The kinds of targets, named as PostgreSQL's recovery_target settings.
const (
	KindLatest    Kind = "latest"    // the end of the archived WAL
	KindTime      Kind = "time"      // recovery_target_time
	KindLSN       Kind = "lsn"       // recovery_target_lsn
	KindXID       Kind = "xid"       // recovery_target_xid
	KindName      Kind = "name"      // recovery_target_name: a restore point
	KindImmediate Kind = "immediate" // recovery_target: as soon as the backup is consistent
)

// Target is where recovery is to end.
type Target struct {
	Kind      Kind      `json:"kind"`
	Time      time.Time `json:"time,omitzero"`
	LSN       wal.LSN   `json:"lsn,omitzero"`
	XID       uint64    `json:"xid,omitempty"`
	Name      string    `json:"name,omitempty"`
	Exclusive bool      `json:"exclusive,omitempty"` // end just before the target rather than just after it
}

// Latest is the end of the archived WAL.
func Latest() Target { return Target{Kind: KindLatest} }

// AtTime is the last moment at which no commit later than t is in. PostgreSQL counts in microseconds.
func AtTime(t time.Time) Target {
	return Target{Kind: KindTime, Time: t.UTC().Truncate(time.Microsecond)}
}

// AtLSN is just after the WAL record that starts at l.
func AtLSN(l wal.LSN) Target { return Target{Kind: KindLSN, LSN: l} }

// AtXID is just after transaction x has ended. Of a 64-bit transaction ID, PostgreSQL uses the lower half.
func AtXID(x uint64) Target { return Target{Kind: KindXID, XID: x} }

// AtName is the restore point that pg_create_restore_point made under that name. Where backups lead to several of that
// name, a plan with a [Log] refuses to choose, though PostgreSQL would end at the first that it meets.
func AtName(name string) Target { return Target{Kind: KindName, Name: name} }

// Before is just before something that a cluster did, as [wal.Archive.Search] finds it: of a transaction that dropped a
// table, the last moment at which the table is there. To end on the timeline that it was done on, give that in
// [PlanOptions] as well.
func Before(e wal.Event) Target { return AtLSN(e.LSN).Before() }

// Immediate is the moment at which the backup becomes consistent.
func Immediate() Target { return Target{Kind: KindImmediate} }

// Before returns the target that ends just before t rather than just after it.
func (t Target) Before() Target {
	t.Exclusive = true
	return t
}

// String describes the target.
func (t Target) String() string {
	at := "to"
	if t.Exclusive {
		at = "to just before"
	}
	switch t.Kind {
	case KindLatest:
		return "to the end of the archive"
	case KindImmediate:
		return "to the consistent state of the backup"
	case KindTime:
		return at + " " + t.Time.Format(time.RFC3339Nano)
	case KindLSN:
		return at + " " + t.LSN.String()
	case KindXID:
		return at + " transaction " + strconv.FormatUint(t.XID, 10)
	case KindName:
		return at + " restore point " + strconv.Quote(t.Name)
	}
	return "to nowhere"
}

// firstXID is the first ID that a transaction may have (FirstNormalTransactionId).
const firstXID = 3

// until is the target as recovery of a backup sees it.
func (t Target) until(b *backup.Summary) wal.Until {
	u := wal.Until{Exclusive: t.Exclusive}
	switch t.Kind {
	case KindTime:
		u.Time = t.Time.Truncate(time.Microsecond) // as PostgreSQL is told
	case KindLSN:
		u.LSN = t.LSN
	case KindXID:
		u.XID = uint32(t.XID)
	case KindName:
		u.Name = t.Name
	case KindImmediate:
		u.Consistent = b.StopLSN
	case KindLatest:
	}
	return u
}

// check tells what is wrong with a target.
func (t Target) check() error {
	switch {
	case t.Kind == KindTime && t.Time.IsZero(), t.Kind == KindLSN && t.LSN == 0, t.Kind == KindXID && t.XID == 0,
		t.Kind == KindName && t.Name == "":
		return fmt.Errorf("restore: a target of kind %q without its value", t.Kind)
	case t.Exclusive && (t.Kind == KindLatest || t.Kind == KindImmediate || t.Kind == KindName):
		return fmt.Errorf("restore: a target of kind %q cannot be exclusive", t.Kind)
	}
	switch t.Kind {
	case KindLatest, KindTime, KindLSN, KindXID, KindName, KindImmediate:
	default:
		return fmt.Errorf("restore: unknown kind of target %q", t.Kind)
	}
	if t.Kind == KindXID && uint32(t.XID) < firstXID {
		return fmt.Errorf("restore: %d is no transaction: the lower half of its ID is %d, and transactions begin with %d",
			t.XID, uint32(t.XID), firstXID)
	}
	// PostgreSQL keeps names in MAXFNAMELEN bytes.
	if len(t.Name) > 63 {
		return fmt.Errorf("restore: the name of a restore point has at most 63 bytes")
	}
	return nil
}
