package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/wal"
)

// needed is a run of segments of one timeline that a recovery reads, by their names: FIRST-LAST.
type needed struct{ first, last string }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *needed) UnmarshalText(text []byte) error {
	n.first, n.last, _ = strings.Cut(string(text), "-")
	for _, name := range []string{n.first, n.last} {
		if parsed, err := wal.ParseName(name); err != nil || parsed.Kind != wal.KindSegment {
			return fmt.Errorf("%q is no run of segments: give FIRST-LAST, by their names", text)
		}
	}
	if n.first[:8] != n.last[:8] || n.first > n.last {
		return fmt.Errorf("%q is no run of segments: they are of one timeline, and ascend", text)
	}
	return nil
}

// needs are the arguments of `wal fetch` that say which segments a plan takes.
func needs(ranges []wal.Range) (args []string) {
	for _, r := range ranges {
		args = append(args, "--needs", r.First.Name()+"-"+r.Last.Name())
	}
	return args
}

// holeError is that a segment is missing that a recovery was planned with: it is not the end of the WAL.
type holeError struct {
	name string
	err  error
}

func (e *holeError) Error() string {
	return fmt.Sprintf("segment %s was there when this recovery was planned, and is gone: %v", e.name, e.err)
}

// owed makes a missing file an error of another kind where it is one of those that the recovery needs.
func owed(all []needed, name string, err error) error {
	if len(name) == 24 && slices.ContainsFunc(all, func(n needed) bool { return name[:8] == n.first[:8] && n.first <= name && name <= n.last }) {
		return &holeError{name, err}
	}
	return err
}
