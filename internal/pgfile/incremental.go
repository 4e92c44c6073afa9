package pgfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Incremental is the head of a file that an incremental backup of PostgreSQL 17 or later has in place of a relation's:
// which pages it holds, and how long the relation's file is (sendFile of PostgreSQL's basebackup.c).
//
// The relation's file has [Incremental.Pages] pages. Those in Blocks are in the file, one behind the other after the
// head. Of the others, those below Length are what they were in the backup before, zeros where that was shorter; the rest
// are zeros.
//
// Pages of a visibility map may be missing although they have changed: records that clear its bits name the page of the
// table only, so that WAL summaries do not tell of them ("Why clearing the VM doesn't require registering vm buffer in wal
// record", pgsql-hackers, March 2026). Whoever puts a visibility map together must not take such a page from the backup
// before; a map whose bits are clear, or none, is always right.
type Incremental struct {
	Length uint32   // the file's truncation block length
	Blocks []uint32 // numbers of pages in the relation's file, ascending
	Head   int64    // bytes before the first page
}

const (
	incrementalPrefix = "INCREMENTAL."
	incrementalMagic  = 0xd3ae1f0d
	incrementalFixed  = 3 * 4 // bytes: magic, number of blocks, truncation block length
)

// IncrementalOf tells whether a file of an incremental backup, by its path, stands in for a relation's, and for which.
func IncrementalOf(p string) (relation string, ok bool) {
	dir, name := path.Split(p)
	name, ok = strings.CutPrefix(name, incrementalPrefix)
	if !ok {
		return "", false
	}
	r, ok := ParseRelation(dir + name)
	if !ok || r.Temp {
		return "", false
	}
	return dir + name, true
}

// ReadIncremental reads the head of such a file, up to the first of its pages. Sizes are those of [Control].
func ReadIncremental(r io.Reader, pageSize, relSegPages uint32) (Incremental, error) {
	le := binary.LittleEndian
	var fixed [incrementalFixed]byte
	if err := readHead(r, fixed[:]); err != nil {
		return Incremental{}, err
	}
	if magic := le.Uint32(fixed[:]); magic != incrementalMagic {
		return Incremental{}, fmt.Errorf("incremental file: it begins with %08x, not %08x", magic, uint32(incrementalMagic))
	}
	count := le.Uint32(fixed[4:])
	if count > relSegPages {
		return Incremental{}, fmt.Errorf("incremental file: %d blocks, a relation's file has at most %d", count, relSegPages)
	}
	// Some minors of 17 and 18 write lengths beyond the end of the relation's file (GetFileBackupMethod).
	i := Incremental{Length: min(le.Uint32(fixed[8:]), relSegPages), Head: incrementalFixed + 4*int64(count)}
	if count == 0 {
		return i, nil
	}
	// Pages begin at a multiple of their size.
	i.Head = (i.Head + int64(pageSize) - 1) / int64(pageSize) * int64(pageSize)
	rest := make([]byte, i.Head-incrementalFixed)
	if err := readHead(r, rest); err != nil {
		return Incremental{}, err
	}
	i.Blocks = make([]uint32, count)
	for n := range i.Blocks {
		b := le.Uint32(rest[4*n:])
		if b >= relSegPages || n > 0 && b <= i.Blocks[n-1] {
			return Incremental{}, fmt.Errorf("incremental file: block %d does not ascend below %d", b, relSegPages)
		}
		i.Blocks[n] = b
	}
	if !Zero(rest[4*count:]) {
		return Incremental{}, errors.New("incremental file: its head is not padded with zeros")
	}
	return i, nil
}

// Pages is how many pages the relation's file has.
func (i Incremental) Pages() uint32 {
	if n := len(i.Blocks); n > 0 {
		return max(i.Length, i.Blocks[n-1]+1)
	}
	return i.Length
}

// Size is how many bytes the incremental file has.
func (i Incremental) Size(pageSize uint32) int64 {
	return i.Head + int64(len(i.Blocks))*int64(pageSize)
}

func readHead(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("incremental file: read its head: %w", err)
	}
	return nil
}
