package wal

import (
	"encoding/hex"
	"fmt"
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

// ForeignError means that a file comes from another cluster than the one the repository belongs to.
type ForeignError struct {
	Name string // of the file
	Got  uint64 // system identifier of the file
	Want uint64 // of the repository
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("wal: %s is of system identifier %d, but this repository belongs to system identifier %d: use a repository of its own for each cluster",
		e.Name, e.Got, e.Want)
}

// SegmentError means that a file is not the segment its name says: short, empty, never filled, or of another place.
type SegmentError struct {
	Name string
	Err  error
}

func (e *SegmentError) Error() string { return "wal: " + e.Name + ": " + e.Err.Error() }
func (e *SegmentError) Unwrap() error { return e.Err }
