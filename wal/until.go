package wal

import "time"

// Until is where a recovery is to end, by one of PostgreSQL's recovery_target settings. The zero value is the end of the
// WAL.
type Until struct {
	Time       time.Time // recovery_target_time
	XID        uint32    // recovery_target_xid
	Name       string    // recovery_target_name
	LSN        LSN       // recovery_target_lsn
	Consistent LSN       // recovery_target = 'immediate', of a cluster that is consistent once it has replayed up to there
	Exclusive  bool      // recovery_target_inclusive = off, which a time, an XID, and an LSN heed
}

// before tells whether recovery ends before a record (recoveryStopsBefore of xlogrecovery.c). end is the commit or abort
// that the record is, if any.
func (u Until) before(r *Record, end *Event) bool {
	switch {
	case u.LSN != 0:
		return u.Exclusive && r.LSN >= u.LSN
	case end == nil:
		return false
	case u.XID != 0:
		return u.Exclusive && end.XID == u.XID
	}
	return u.passes(end.Time)
}

// passes tells whether the end of a transaction at a time is what recovery to a time ends before. Many may share a time.
func (u Until) passes(at time.Time) bool {
	return !u.Time.IsZero() && (at.After(u.Time) || u.Exclusive && at.Equal(u.Time))
}

// after tells whether recovery ends after a record (recoveryStopsAfter). Aborts count as commits do.
func (u Until) after(r *Record, end *Event) bool {
	switch {
	case u.LSN != 0:
		return !u.Exclusive && r.LSN >= u.LSN
	case u.Consistent != 0:
		return r.End >= u.Consistent
	case u.XID != 0:
		return !u.Exclusive && end != nil && end.XID == u.XID
	case u.Name != "":
		return u.named(r)
	}
	return false
}

// names tells whether an event is a restore point of the name, which an index has as UTF-8.
func (u Until) names(e Event) bool {
	return e.Kind == EventRestorePoint && (e.Name == u.Name || e.Name == string([]rune(u.Name)))
}

func (u Until) named(r *Record) bool {
	if r.Resource != ResourceXLOG {
		return false
	}
	p, _ := r.Payload()
	point, ok := p.(*RestorePoint)
	return ok && point.Name == u.Name
}

// mayEnd tells whether recovery may end with a record that ends in a segment: by its index, and by what is told by the
// record that crosses into it.
func (u Until) mayEnd(ix *Index, crossed *Summary) bool {
	switch {
	case u.LSN != 0:
		return ix.Segment.End() > u.LSN
	case u.Consistent != 0:
		return ix.Segment.End() >= u.Consistent
	case u.Name != "":
		for _, events := range [][]Event{crossed.Events, ix.Events} {
			for _, e := range events {
				if u.names(e) {
					return true
				}
			}
		}
		return false
	case u.XID == 0 && u.Time.IsZero():
		return false
	}
	for _, e := range crossed.crossed {
		if e.XID == u.XID && u.XID != 0 || u.passes(e.Time) {
			return true
		}
	}
	switch e := ix.ends; {
	case e == nil:
		return true
	case u.XID != 0:
		return e.has(u.XID)
	default:
		return e.Count > 0 && u.passes(e.Last)
	}
}
