package restore

import (
	"errors"
	"fmt"
	"regexp"
)

// Standby makes what is restored a standby: it replays the WAL that there is, then what its primary streams, and goes on
// doing so until it is promoted.
type Standby struct {
	// PrimaryConnInfo says how to connect to the primary, as a role that may replicate (primary_conninfo). It is written to
	// postgresql.auto.conf, which is private to the user that runs the restore, and nowhere else; a password is better
	// kept in that user's ~/.pgpass. The default, empty, streams from nobody: more WAL comes by RestoreCommand only.
	PrimaryConnInfo string

	// Slot is the physical replication slot on the primary by which to stream, so that the primary keeps what the standby
	// has yet to receive (primary_slot_name). It has to exist. The default, empty, is none.
	Slot string
}

// slotName is what ReplicationSlotValidateName of PostgreSQL's slot.c allows.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// checkStandby tells what is wrong with the options of a standby.
func checkStandby(p *Plan, o *Options) error {
	switch {
	case o.Action != "":
		return fmt.Errorf("restore: action %q is for the end of a recovery: a standby goes on until it is promoted", o.Action)
	case p.Target.Kind != KindLatest && p.Target.Kind != KindImmediate:
		return fmt.Errorf("restore: a standby does not end %s: plan it for the latest, or the immediate target", p.Target)
	case o.Standby.Slot != "" && o.Standby.PrimaryConnInfo == "":
		return errors.New("restore: a standby with a slot needs a primary to stream from")
	case o.Standby.Slot != "" && !slotName.MatchString(o.Standby.Slot):
		return fmt.Errorf("restore: %q is no name of a replication slot", o.Standby.Slot)
	}
	return nil
}

// standbySettings say how to follow a primary. What they leave out is turned off: a target would end recovery.
func standbySettings(p *Plan, o *Options) []setting {
	timeline := "latest" // so that it follows whoever takes the primary's place
	if p.forced {
		timeline = timelineSetting(p)
	}
	return []setting{
		{"restore_command", o.RestoreCommand},
		{"primary_conninfo", o.Standby.PrimaryConnInfo},
		{"primary_slot_name", o.Standby.Slot},
		{"recovery_target_timeline", timeline},
	}
}
