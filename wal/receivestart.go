package wal

// startAt decides with which segment to go on: c is what the archive holds, h how the server came to its timeline, slot
// from where on its slot holds WAL (0: unknown or no slot), and flushed where its WAL ends.
//
// The archive's end is that of the newest of the server's timelines that it holds anything of. Where the slot reaches
// further back than that, what lies between may have holes, as when other hands archive too: then the first of them.
func startAt(c Coverage, h History, slot, flushed LSN, size uint32) Segment {
	end, ok := archiveEnd(c, h, size)
	if slot == 0 {
		slot = flushed
		if ok {
			return end
		}
	}
	at := SegmentAt(h.At(slot), slot, size)
	if !ok {
		return at
	}
	for at.Start() < end.Start() {
		next := h.after(at)
		// The last segment of a timeline that was left is also the first of the next, which begins with a copy.
		copied := next.Number == at.Number && c.Holds(next)
		if !copied && !c.Holds(at) && !c.reaches(at.Timeline, h) {
			break
		}
		at = next
	}
	if at.Start() < end.Start() {
		return at
	}
	return end
}

// archiveEnd returns the segment that follows what is archived of a history, and false when nothing is.
func archiveEnd(c Coverage, h History, size uint32) (Segment, bool) {
	for i := len(h.Forks); i >= 0; i-- {
		t := h.Timeline
		if i < len(h.Forks) {
			t = h.Forks[i].Timeline
		}
		tc := c.Timeline(t)
		if tc == nil {
			continue
		}
		var next Segment
		switch n := len(tc.Ranges); {
		case tc.Partial != nil:
			next = tc.Partial.Segment
		case n > 0:
			next = h.after(tc.Ranges[n-1].Last)
		default:
			continue
		}
		if at, _ := h.Until(t); at != 0 && next.Timeline == t && (next.Start() >= at || c.reaches(t, h)) {
			next = SegmentAt(h.At(at), at, size)
		}
		return next, true
	}
	return Segment{}, false
}

// reaches tells whether pieces of a timeline go as far as a history was on it, or further, as when a primary was lost
// before its standby had all of its WAL.
func (c Coverage) reaches(t Timeline, h History) bool {
	tc := c.Timeline(t)
	at, _ := h.Until(t)
	return at != 0 && tc != nil && tc.Partial != nil && tc.Partial.End >= at
}

// after returns the segment that follows another on the way of a history. Where the history leaves a timeline in the
// middle of a segment, that is one of both timelines, and follows itself.
func (h History) after(s Segment) Segment {
	next := s.Next()
	if at, ok := h.Until(s.Timeline); ok && at != 0 && next.Start() >= at {
		return SegmentAt(h.At(at), at, s.Size)
	}
	return next
}
