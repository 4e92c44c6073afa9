package wal

import (
	"bytes"
	"time"
)

// Checkpoint is a checkpoint (CheckPoint of pg_control.h).
type Checkpoint struct {
	Shutdown     bool     // the server was shut down then, or recovery ended
	Redo         LSN      // where replay would begin
	Timeline     Timeline // that it is on
	PrevTimeline Timeline // another one when the timeline begins with it
	NextXID      uint64   // the next transaction's, with its epoch above
	NextOID      uint32
	Time         time.Time // when it began, in whole seconds
	WALLevel     WALLevel  // since 17; WALLevelUnknown before
}

// CheckpointRedo marks where replay from an online checkpoint begins, since 17.
type CheckpointRedo struct{ WALLevel WALLevel }

// RestorePoint is made by pg_create_restore_point.
type RestorePoint struct {
	Name string
	Time time.Time
}

// Switch is the end of a segment that was left before it was full.
type Switch struct{}

// EndOfRecovery is where a timeline begins after a promotion without a shutdown checkpoint.
type EndOfRecovery struct {
	Time         time.Time
	Timeline     Timeline
	PrevTimeline Timeline
	WALLevel     WALLevel // since 17
}

// ParameterChange tells the settings that a standby must not have less of.
type ParameterChange struct {
	MaxConnections          int
	MaxWorkerProcesses      int
	MaxWALSenders           int
	MaxPreparedTransactions int
	MaxLocksPerTransaction  int
	WALLevel                WALLevel
	WALLogHints             bool
	TrackCommitTimestamp    bool
}

// NextOID tells that OIDs below it may be in use.
type NextOID struct{ OID uint32 }

// WALLevel is the setting wal_level.
type WALLevel int

// The levels. Under minimal some changes are not in the WAL.
const (
	WALLevelMinimal WALLevel = iota
	WALLevelReplica
	WALLevelLogical
	WALLevelUnknown WALLevel = -1
)

// String returns the level as the setting has it.
func (l WALLevel) String() string {
	switch l {
	case WALLevelMinimal:
		return "minimal"
	case WALLevelReplica:
		return "replica"
	case WALLevelLogical:
		return "logical"
	}
	return "unknown"
}

// Kinds of records of the resource manager XLOG (pg_control.h).
const (
	xlogCheckpointShutdown = 0x00
	xlogCheckpointOnline   = 0x10
	xlogNextOID            = 0x30
	xlogSwitch             = 0x40
	xlogParameterChange    = 0x60
	xlogRestorePoint       = 0x70
	xlogEndOfRecovery      = 0x90
	xlogCheckpointRedo     = 0xE0 // since 17

	restorePointName = 64 // MAXFNAMELEN
)

func (r *Record) xlog() (any, error) {
	f := fields{b: r.Data}
	switch kind := r.kind(); kind {
	case xlogCheckpointShutdown, xlogCheckpointOnline:
		c := &Checkpoint{Shutdown: kind == xlogCheckpointShutdown, Redo: f.lsn()}
		c.Timeline, c.PrevTimeline = Timeline(f.uint32()), Timeline(f.uint32())
		if f.take(4); r.major >= 17 { // full_page_writes, and what aligns the next
			c.WALLevel = WALLevel(f.uint32())
		} else {
			c.WALLevel = WALLevelUnknown
			f.take(4)
		}
		c.NextXID, c.NextOID = f.uint64(), f.uint32()
		f.take(6 * 4) // multixacts; oldest xid and multixact, and their databases
		f.take(4)
		c.Time = time.Unix(int64(f.uint64()), 0).UTC()
		return c, f.err
	case xlogCheckpointRedo:
		if r.major < 17 {
			return nil, nil //nolint:nilnil // of no interest
		}
		return &CheckpointRedo{WALLevel: WALLevel(f.uint32())}, f.err
	case xlogNextOID:
		return &NextOID{OID: f.uint32()}, f.err
	case xlogSwitch:
		return &Switch{}, nil
	case xlogRestorePoint:
		p := &RestorePoint{Time: f.timestamp()}
		name, _, _ := bytes.Cut(f.take(restorePointName), []byte{0})
		p.Name = string(name)
		return p, f.err
	case xlogEndOfRecovery:
		e := &EndOfRecovery{Time: f.timestamp(), Timeline: Timeline(f.uint32()), PrevTimeline: Timeline(f.uint32()), WALLevel: WALLevelUnknown}
		if r.major >= 17 {
			e.WALLevel = WALLevel(f.uint32())
		}
		return e, f.err
	case xlogParameterChange:
		return &ParameterChange{
			MaxConnections: int(f.uint32()), MaxWorkerProcesses: int(f.uint32()), MaxWALSenders: int(f.uint32()),
			MaxPreparedTransactions: int(f.uint32()), MaxLocksPerTransaction: int(f.uint32()),
			WALLevel: WALLevel(f.uint32()), WALLogHints: f.bool(), TrackCommitTimestamp: f.bool(),
		}, f.err
	}
	return nil, nil //nolint:nilnil // of no interest
}
