package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// target are the flags that say where recovery is to end.
type target struct {
	Time      *timeFlag `name:"to-time" xor:"target" placeholder:"T" help:"Recover to a time: RFC 3339, or as PostgreSQL prints it."`
	LSN       *wal.LSN  `name:"to-lsn" xor:"target" placeholder:"L" help:"Recover to a position in the WAL."`
	XID       *uint64   `name:"to-xid" xor:"target" placeholder:"X" help:"Recover to the end of a transaction."`
	Name      *string   `name:"to-name" xor:"target" placeholder:"N" help:"Recover to a restore point."`
	Immediate bool      `name:"to-immediate" xor:"target" help:"Recover until the backup is consistent."`
	Exclusive bool      `help:"End just before the target rather than just after it."`
	Backup    string    `placeholder:"ID" help:"Backup to begin with. Default: the newest that leads to the target."`
	SystemID  uint64    `name:"system-id" placeholder:"N" help:"Cluster to recover, by its system identifier, where the repository has belonged to several. Default: that of the backup, or of the newest."`
	Timeline  string    `default:"latest" placeholder:"latest|current|N" help:"Timeline to end on."`
}

// target returns the library's target.
func (t *target) target() (restore.Target, error) {
	to := restore.Latest()
	switch {
	case t.Time != nil:
		to = restore.AtTime(t.Time.Time)
	case t.LSN != nil:
		to = restore.AtLSN(*t.LSN)
	case t.XID != nil:
		to = restore.AtXID(*t.XID)
	case t.Name != nil:
		to = restore.AtName(*t.Name)
	case t.Immediate:
		to = restore.Immediate()
	}
	if t.Exclusive {
		if t.Time == nil && t.LSN == nil && t.XID == nil {
			return to, usage("--exclusive needs one of --to-time, --to-lsn and --to-xid")
		}
		to = to.Before()
	}
	return to, nil
}

// options returns the library's options for a plan.
func (t *target) options() (*restore.PlanOptions, error) {
	o := &restore.PlanOptions{SystemID: t.SystemID}
	if t.Backup != "" {
		id, err := backup.ParseID(t.Backup)
		if err != nil {
			return nil, &usageError{err}
		}
		o.Backup = id
	}
	switch t.Timeline {
	case "latest":
	case "current":
		o.Timeline = restore.Current
	default:
		text, base := t.Timeline, 10
		if hex, ok := strings.CutPrefix(text, "0x"); ok {
			text, base = hex, 16
		}
		n, err := strconv.ParseUint(text, base, 32)
		if err != nil || n == 0 || wal.Timeline(n) == restore.Current {
			return nil, usage(fmt.Sprintf("--timeline is latest, current or a number, not %q", t.Timeline))
		}
		o.Timeline = wal.Timeline(n)
	}
	return o, nil
}

// timeFlag is a time on the command line. One without a zone would mean another moment on another host.
type timeFlag struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *timeFlag) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z0700"} {
		if at, err := time.Parse(layout, string(b)); err == nil {
			t.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is not a time with a zone, such as 2026-11-21T10:15:30Z or 2026-11-21 10:15:30.5+00", b)
}
