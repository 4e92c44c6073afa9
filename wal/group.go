package wal

import "strconv"

// group is a run of segments of a timeline whose names differ in the last two digits only: 256 of them, or as many as
// there are in 4 GiB of WAL.
type group struct{ first Segment }

func groupOf(s Segment) group {
	s.Number -= s.Number % groupLen(s.Size)
	return group{first: s}
}

// groupLen is how many segments are in a group.
func groupLen(size uint32) uint64 { return min(256, (uint64(1)<<32)/uint64(size)) }

// end is the number of the segment behind the group.
func (g group) end() uint64 { return g.first.Number + groupLen(g.first.Size) }

// name is what the names of the segments have in common.
func (g group) name() string { return g.first.Name()[:22] }

// parseGroup is the reverse of name.
func parseGroup(name string, size uint32) (group, bool) {
	s, err := ParseSegment(name+"00", size)
	return group{first: s}, err == nil
}

// indexPrefix begins the keys of indexes of groups. They are not below wal/, where only files of pg_wal are.
func (s System) indexPrefix() string { return "indexes/" + strconv.FormatUint(s.ID, 10) + "/" }

// rollUpKey is the key of the indexes of a group.
func (s System) rollUpKey(g group) string { return s.indexPrefix() + g.name() }
