package wal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxHistory bounds a history file in bytes: a line for each of 10,000 promotions fits.
const maxHistory = 1 << 20

// History tells where a timeline came from: the content of its .history file.
type History struct {
	Timeline Timeline `json:"timeline"`
	// Forks are the timelines before it, oldest first; their positions ascend.
	Forks []Fork `json:"forks"`
}

// Fork is where a timeline was left for the next.
type Fork struct {
	Timeline Timeline `json:"timeline"` // the one that was left
	At       LSN      `json:"at"`       // the first position that is not on it any more
	Reason   string   `json:"reason,omitempty"`
}

// ParseHistory parses the content of timeline t's history file, as readTimeLineHistory of PostgreSQL's timeline.c does.
//
// Recovery towards a timeline can end before that timeline began, and PostgreSQL lists it as a parent all the same. Such
// a one is left out of Forks: the WAL never was on it.
func ParseHistory(t Timeline, content []byte) (History, error) {
	h := History{Timeline: t}
	fail := func(line int, reason string) (History, error) {
		return History{}, fmt.Errorf("wal: history of timeline %d, line %d: %s", t, line, reason)
	}
	if len(content) > maxHistory {
		return fail(0, "longer than 1 MiB")
	}
	s := bufio.NewScanner(bytes.NewReader(content))
	s.Buffer(nil, maxHistory)
	var parent Timeline
	for line := 1; s.Scan(); line++ {
		text := strings.TrimLeft(s.Text(), " \t\r\n\v\f")
		if text == "" || text[0] == '#' {
			continue
		}
		f := strings.Fields(text)
		if len(f) < 2 {
			return fail(line, "want a timeline and a position")
		}
		id, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil || id == 0 {
			return fail(line, "the timeline is not a number")
		}
		at, err := ParseLSN(f[1])
		if err != nil || at == 0 {
			return fail(line, "the position is not an LSN")
		}
		if Timeline(id) <= parent {
			return fail(line, "timelines must ascend")
		}
		if parent = Timeline(id); parent >= t {
			return fail(line, "a parent must be older than its child")
		}
		h.leave(Fork{Timeline: parent, At: at, Reason: strings.Join(f[2:], " ")})
	}
	if err := s.Err(); err != nil {
		return fail(0, err.Error())
	}
	if t > 1 && len(h.Forks) == 0 {
		return History{}, errors.New("wal: a history without a parent timeline")
	}
	return h, nil
}

// leave adds a fork. Timelines that began after it were never come to: the one before them was left there.
func (h *History) leave(f Fork) {
	for n := len(h.Forks); n > 0 && f.At < h.Forks[n-1].At; n-- {
		f.Timeline = h.Forks[n-1].Timeline
		h.Forks = h.Forks[:n-1]
	}
	h.Forks = append(h.Forks, f)
}

// Until returns the position at which the history leaves timeline t, the zero LSN when it ends on t, and ok false when
// it never was on t.
func (h History) Until(t Timeline) (at LSN, ok bool) {
	if t == h.Timeline {
		return 0, true
	}
	for _, f := range h.Forks {
		if f.Timeline == t {
			return f.At, true
		}
	}
	return 0, false
}

// Leaves returns the segment in which the history leaves the timeline of s, as one of that timeline, and the timeline that
// it goes on with, from which that segment is read: it begins with a copy of what was there before. ok is false where the
// history ends on the timeline, or never was on it.
func (h History) Leaves(s Segment) (in Segment, next Timeline, ok bool) {
	at, ok := h.Until(s.Timeline)
	if !ok || at == 0 {
		return Segment{}, 0, false
	}
	return SegmentAt(s.Timeline, at, s.Size), h.At(at), true
}

// At returns the timeline that the history is on just after a position.
func (h History) At(at LSN) Timeline {
	for _, f := range h.Forks {
		if at < f.At {
			return f.Timeline
		}
	}
	return h.Timeline
}
