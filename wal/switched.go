package wal

import (
	"fmt"
	"io"
)

// Switched reads the content of a segment, from its start, and tells whether its records end in a switch to the next
// segment with nothing but zeros behind, as the server leaves it (CopyXLogRecordToWAL of PostgreSQL's xlog.c). Such a
// segment is complete whoever has it: a standby may have the switch before it has received the zeros, where a recycled
// file still has something else. It fails only when r does.
func Switched(s Segment, r io.Reader) (bool, error) {
	var end LSN // of the switch
	scan := newScanner(nil, nil)
	scan.emit = func(r *Record) bool {
		if r.isSwitch() {
			end = switchEnd(r.LSN, LSN(scan.first.PageSize))
		}
		return true
	}
	tail := &lastByte{}
	if _, err := io.CopyBuffer(io.MultiWriter(tail, ignorant{scan}), r, make([]byte, readSize)); err != nil {
		return false, fmt.Errorf("wal: read %s: %w", s, err)
	}
	whole := scan.err == nil && scan.first.Start == s.Start() && scan.lsn == s.End()
	return whole && scan.skip == s.End() && s.Start()+LSN(tail.used) <= end, nil
}

// switchEnd is where a switch ends, which is no more than the header of a record; but that may be continued on the next
// page, behind the header of that.
func switchEnd(at, page LSN) LSN {
	end := at + recordHeaderSize
	if at/page != (end-1)/page {
		end += shortHeaderSize
	}
	return end
}

// ignorant writes to a scanner whatever that finds.
type ignorant struct{ scan *scanner }

func (i ignorant) Write(b []byte) (int, error) {
	_ = i.scan.write(b)
	return len(b), nil
}

// lastByte knows up to where what is written to it is not zero.
type lastByte struct{ at, used int64 }

func (l *lastByte) Write(b []byte) (int, error) {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			l.used = l.at + int64(i) + 1
			break
		}
	}
	l.at += int64(len(b))
	return len(b), nil
}
