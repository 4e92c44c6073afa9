package wal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

func TestParseHistory(t *testing.T) {
	one := wal.Fork{Timeline: 1, At: 0x3000060, Reason: "no recovery target specified"}
	for name, c := range map[string]struct {
		text string
		want []wal.Fork
	}{
		"one parent":  {"1\t0/3000060\tno recovery target specified\n", []wal.Fork{one}},
		"no newline":  {"1\t0/3000060\tno recovery target specified", []wal.Fork{one}},
		"windows":     {"1\t0/3000060\tno recovery target specified\r\n", []wal.Fork{one}},
		"blank lines": {"\n  \n\t\n1\t0/3000060\tno recovery target specified\n\n", []wal.Fork{one}},
		"comments":    {"# a comment\n  # another\n1\t0/3000060\tno recovery target specified\n#", []wal.Fork{one}},
		"spaces":      {"  1   0/3000060  no recovery target specified", []wal.Fork{one}},
		"no reason":   {"1\t0/3000060\n", []wal.Fork{{Timeline: 1, At: 0x3000060}}},
		"two parents": {
			"1\t0/3000060\tno recovery target specified\n\n4\t16/B374D848\tbefore 2026-01-01 00:00:00+00\n",
			[]wal.Fork{one, {Timeline: 4, At: 0x16_B374D848, Reason: "before 2026-01-01 00:00:00+00"}},
		},
		"left at once": {
			"1\t0/3000060\tno recovery target specified\n2\t0/3000060\tx\n",
			[]wal.Fork{one, {Timeline: 2, At: 0x3000060, Reason: "x"}},
		},
	} {
		got, err := wal.ParseHistory(9, []byte(c.text))
		require.NoError(t, err, name)
		require.Equal(t, wal.History{Timeline: 9, Forks: c.want}, got, name)
	}
}

// Recovery that is told to follow timeline 2, and ends before that began, makes such a history: it lists timeline 2.
func TestHistoryOfARecoveryThatEndedBeforeItsParentBegan(t *testing.T) {
	for _, c := range []struct {
		lines []wal.Fork
		want  []wal.Fork
	}{
		{[]wal.Fork{{Timeline: 1, At: 0xD0}, {Timeline: 2, At: 0xA0, Reason: "x"}}, []wal.Fork{{Timeline: 1, At: 0xA0, Reason: "x"}}},
		{
			[]wal.Fork{{Timeline: 1, At: 0xD0}, {Timeline: 2, At: 0xE0}, {Timeline: 3, At: 0xA0, Reason: "x"}},
			[]wal.Fork{{Timeline: 1, At: 0xA0, Reason: "x"}},
		},
		{
			[]wal.Fork{{Timeline: 1, At: 0x50, Reason: "y"}, {Timeline: 2, At: 0xE0}, {Timeline: 3, At: 0xA0, Reason: "x"}},
			[]wal.Fork{{Timeline: 1, At: 0x50, Reason: "y"}, {Timeline: 2, At: 0xA0, Reason: "x"}},
		},
		{
			[]wal.Fork{{Timeline: 1, At: 0xD0}, {Timeline: 2, At: 0xA0, Reason: "x"}, {Timeline: 3, At: 0xF0, Reason: "z"}},
			[]wal.Fork{{Timeline: 1, At: 0xA0, Reason: "x"}, {Timeline: 3, At: 0xF0, Reason: "z"}},
		},
	} {
		h, err := wal.ParseHistory(9, waltest.History(c.lines...))
		require.NoError(t, err)
		require.Equal(t, c.want, h.Forks)
		for _, left := range c.lines { // what tliOfPointInHistory says
			for _, at := range []wal.LSN{left.At - 1, left.At} {
				require.Equal(t, timelineOf(9, c.lines, at), h.At(at), "%s of %v", at, c.lines)
			}
		}
	}
	h, err := wal.ParseHistory(3, waltest.History(wal.Fork{Timeline: 1, At: 0xD0}, wal.Fork{Timeline: 2, At: 0xA0}))
	require.NoError(t, err)
	_, ok := h.Until(2)
	require.False(t, ok, "it never was on timeline 2")
}

// timelineOf is tliOfPointInHistory of PostgreSQL's timeline.c: the newest timeline whose range holds the position.
func timelineOf(newest wal.Timeline, lines []wal.Fork, at wal.LSN) wal.Timeline {
	for i := len(lines); i >= 0; i-- {
		begin, end, t := wal.LSN(0), wal.LSN(1<<64-1), newest
		if i > 0 {
			begin = lines[i-1].At
		}
		if i < len(lines) {
			end, t = lines[i].At, lines[i].Timeline
		}
		if begin <= at && at < end {
			return t
		}
	}
	return 0
}

func TestParseHistoryRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		timeline wal.Timeline
		text     string
	}{
		"empty":                 {2, ""},
		"comments only":         {2, "# nothing\n\n"},
		"no position":           {2, "1\n"},
		"no timeline":           {2, "0/3000060\tx\n"},
		"timeline 0":            {2, "0\t0/3000060\tx\n"},
		"negative timeline":     {2, "-1\t0/3000060\tx\n"},
		"signed timeline":       {2, "+1\t0/3000060\tx\n"},
		"hexadecimal timeline":  {16, "A\t0/3000060\tx\n"},
		"large timeline":        {2, "4294967297\t0/3000060\tx\n"},
		"malformed position":    {2, "1\t3000060\tx\n"},
		"position 0":            {2, "1\t0/0\tx\n"},
		"large position":        {2, "1\t0/100000000\tx\n"},
		"itself":                {2, "2\t0/3000060\tx\n"},
		"a child":               {2, "3\t0/3000060\tx\n"},
		"twice":                 {3, "1\t0/3000060\tx\n1\t0/4000060\tx\n"},
		"descending":            {4, "2\t0/3000060\tx\n1\t0/4000060\tx\n"},
		"descending, never on":  {4, "3\t0/3000060\tx\n2\t0/2000060\tx\n"},
		"second line malformed": {3, "1\t0/3000060\tx\ny\n"},
		"binary":                {2, "\x00\x01\x02"},
		"a WAL segment":         {2, string(content(segment(1)))},
		"larger than it gets":   {2, "1\t0/3000060\tx\n" + strings.Repeat("#\n", 1<<20)},
		"a long line":           {2, "1\t0/3000060\t" + strings.Repeat("x", 1<<20)},
	} {
		_, err := wal.ParseHistory(c.timeline, []byte(c.text))
		require.Error(t, err, name)
	}
	h, err := wal.ParseHistory(1, nil)
	require.NoError(t, err, "the first timeline has none")
	require.Equal(t, wal.History{Timeline: 1}, h)
}

func TestHistoryOfManyTimelines(t *testing.T) {
	var forks []wal.Fork
	for i := range 10_000 {
		forks = append(forks, wal.Fork{Timeline: wal.Timeline(i + 1), At: wal.LSN(i+1) << 24, Reason: fmt.Sprintf("reason %d", i)})
	}
	h, err := wal.ParseHistory(10_001, waltest.History(forks...))
	require.NoError(t, err)
	require.Equal(t, forks, h.Forks)
}

func TestHistoryUntilAndAt(t *testing.T) {
	h := wal.History{Timeline: 5, Forks: []wal.Fork{{Timeline: 1, At: 0x100}, {Timeline: 2, At: 0x200}, {Timeline: 4, At: 0x200}}}
	for timeline, want := range map[wal.Timeline]wal.LSN{1: 0x100, 2: 0x200, 4: 0x200, 5: 0} {
		at, ok := h.Until(timeline)
		require.True(t, ok, "timeline %d", timeline)
		require.Equal(t, want, at)
	}
	for _, timeline := range []wal.Timeline{0, 3, 6} {
		_, ok := h.Until(timeline)
		require.False(t, ok, "timeline %d", timeline)
	}
	for at, want := range map[wal.LSN]wal.Timeline{0: 1, 0xFF: 1, 0x100: 2, 0x1FF: 2, 0x200: 5, 0x201: 5, 1<<64 - 1: 5} {
		require.Equal(t, want, h.At(at), "%s", at)
	}
	require.Equal(t, wal.Timeline(1), wal.History{Timeline: 1}.At(0x100))
}

func TestRealHistories(t *testing.T) {
	for name, text := range seeds(t, "history", "*.history") {
		_, file, ok := strings.Cut(name, "-")
		require.True(t, ok, name)
		n := parseName(t, file)
		h, err := wal.ParseHistory(n.Timeline, text)
		require.NoError(t, err, name)
		require.NotEmpty(t, h.Forks, name)
		require.Equal(t, wal.Timeline(1), h.Forks[0].Timeline, name)
	}
}
