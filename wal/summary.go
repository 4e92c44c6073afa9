package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Summary is what the records of a stretch of WAL tell, put together from the indexes of its segments.
type Summary struct {
	From, To LSN // the records that begin at From or later, and before To
	Commits  Commits
	Events   []Event // in the order of their LSNs
	Blocks   Blocks

	crossed []Event // commits and aborts whose records cross from one segment into another
}

// IndexError means that the records of a segment could not be read to its end, so that a summary with it would lack
// something. Who needs to know reads the segments.
type IndexError struct {
	Segment Segment
	At      LSN // up to where they were read
	Reason  string
}

func (e *IndexError) Error() string {
	return fmt.Sprintf("wal: the index of %s ends at %s: %s", e.Segment, e.At, e.Reason)
}

// Summarize puts together the indexes of segments of one timeline that follow each other, in that order. Of a record
// that begins before the first segment or ends behind the last, nothing is in the summary. An index that ends early,
// unless it is the last, is an *[IndexError].
func Summarize(indexes ...*Index) (*Summary, error) {
	sum := &summing{}
	for _, ix := range indexes {
		if err := sum.add(ix); err != nil {
			return nil, err
		}
	}
	return &sum.Summary, nil
}

// summing is a summary that segments are added to, one after the other.
type summing struct {
	Summary
	last  Segment
	open  joint       // the record that crosses into the next
	early *IndexError // the last index ends early
}

func (s *summing) add(ix *Index) error {
	switch {
	case s.last == Segment{}:
		s.From = ix.begin()
	case s.early != nil:
		return s.early
	case ix.Segment != s.last.Next():
		return fmt.Errorf("wal: summarize: %s does not follow %s", ix.Segment, s.last)
	}
	s.last = ix.Segment
	switched := false
	if s.open.length > 0 {
		var err error
		if switched, err = s.open.next(&s.Summary, ix); err != nil {
			return err
		}
	}
	if ix.Damage != "" && (!switched || ix.End != ix.head.end) {
		s.early = &IndexError{Segment: ix.Segment, At: ix.End, Reason: ix.Damage}
	}
	s.Commits.merge(ix.Commits)
	s.Events = append(s.Events, ix.Events...)
	s.Blocks.replay(ix.changes)
	s.To = ix.End
	if ix.tailAt != 0 {
		var err error
		if s.open, err = ix.unfinished(); err != nil {
			return err
		}
	}
	if s.open.length > 0 {
		s.To = s.open.at
	}
	return nil
}

func (s *Summary) account(a *account) {
	s.Commits.merge(a.commits)
	s.Events = append(s.Events, a.events...)
	s.Blocks.replay(a.changes())
}

// begin is where the first record begins in a segment, or could.
func (ix *Index) begin() LSN {
	if ix.head.length > 0 {
		if ix.head.end == 0 {
			return ix.Segment.End()
		}
		return ix.head.end
	}
	return ix.Segment.Start()
}

// joint is a record that crosses from one segment into another.
type joint struct {
	at     LSN
	tli    Timeline
	major  int
	bytes  []byte
	length int // of what there is of it; 0 when there is no such record
}

// unfinished is the record that begins in the segment and goes on behind it.
func (ix *Index) unfinished() (joint, error) {
	j := joint{at: ix.tailAt, tli: ix.tailTLI, major: ix.Major}
	return j, j.add(ix.Segment, ix.tail)
}

func (j *joint) add(s Segment, e edge) error {
	if e.length > len(e.bytes) {
		return &IndexError{Segment: s, At: j.at, Reason: "a record is too long to be kept in the index"}
	}
	j.bytes = append(j.bytes, e.bytes...)
	j.length += e.length
	return nil
}

// next adds what the next segment has of the record and, when that is all, what the record tells to s.
func (j *joint) next(s *Summary, ix *Index) (switched bool, err error) {
	fail := func(reason string) (bool, error) {
		return false, &IndexError{Segment: ix.Segment, At: j.at, Reason: reason}
	}
	if ix.head.length == 0 {
		if ix.overwrites {
			*j = joint{} // its end was never written
			return false, nil
		}
		return fail("it does not continue the record before it")
	}
	if err := j.add(ix.Segment, ix.head); err != nil || ix.head.end == 0 {
		return false, err
	}
	if len(j.bytes) < recordHeaderSize || binary.LittleEndian.Uint32(j.bytes) != uint32(len(j.bytes)) {
		return fail("it continues another record than the one before it")
	}
	r := Record{LSN: j.at, End: ix.head.end, Timeline: j.tli, major: j.major}
	if err := r.parse(j.bytes, nil); err != nil {
		return fail(err.Error())
	}
	var told account
	if err := told.record(&r); err != nil {
		return fail(errors.Unwrap(err).Error())
	}
	*j = joint{}
	s.account(&told)
	if e, ok := endOf(&r); ok {
		s.crossed = append(s.crossed, e)
	}
	return r.isSwitch(), nil
}
