package wal

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ConflictError means that the archive holds other content under the name of a file. The archive keeps what it has.
// The usual cause is two servers that archive to one repository, one of them a copy of the other.
type ConflictError struct {
	Name     string
	Archived [32]byte // digest of what the archive holds, as repo/FORMAT.md has it
	Offered  [32]byte // digest of the file
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("wal: %s is archived already with other content (digest %s, the file has %s): is another server archiving to this repository?",
		e.Name, hex.EncodeToString(e.Archived[:4]), hex.EncodeToString(e.Offered[:4]))
}

// ForeignError means that a file comes from another cluster than the one the repository belongs to. After pg_upgrade that
// is so until it was consented to: see [Archive.Upgrade], and UpgradedFrom of package backup's Options.
type ForeignError struct {
	Name    string // of the file
	Got     uint64 // system identifier of the file
	Want    uint64 // of the repository
	Earlier bool   // the repository belonged to Got before
}

func (e *ForeignError) Error() string {
	if e.Earlier {
		return fmt.Sprintf("wal: %s is of system identifier %d, to which this repository belonged before it went over to system identifier %d: does a server still run that was upgraded?",
			e.Name, e.Got, e.Want)
	}
	return fmt.Sprintf("wal: %s is of system identifier %d, but this repository belongs to system identifier %d: use a repository of its own for each cluster; "+
		"if the cluster was upgraded, take a backup that says so, from system identifier %d", e.Name, e.Got, e.Want, e.Want)
}

// AmbiguousError means that a file of the archive was asked for, or handed over, by its name alone, which several of the
// clusters may have that the repository has belonged to. Nothing was done: whoever asks has to say which is meant, by
// [Options].
type AmbiguousError struct {
	Name    string   // of the file
	Systems []uint64 // system identifiers of the clusters, the one that the repository belongs to last
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("wal: %s may be of any of the system identifiers %s, which this repository belongs to or has belonged to: say of which",
		e.Name, strings.Trim(fmt.Sprint(e.Systems), "[]"))
}

// SegmentError means that a file is not the segment its name says: short, empty, never filled, not complete, or of another
// place.
type SegmentError struct {
	Name string
	Err  error
}

func (e *SegmentError) Error() string { return "wal: " + e.Name + ": " + e.Err.Error() }
func (e *SegmentError) Unwrap() error { return e.Err }
