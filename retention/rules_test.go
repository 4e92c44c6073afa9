package retention_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// chain is a catalogue: a letter a day for full, differential and incremental, the last one a day before noon. A
// differential is built on the full one before it, an incremental on whatever is.
func chain(types string) (all []*backup.Summary) {
	full, last := backup.ID(""), backup.ID("")
	for i, letter := range types {
		b := summary(fmt.Sprintf("%02d%c", i, letter), len(types)-i)
		switch letter {
		case 'F':
			b.Type, full = backup.Full, b.ID
		case 'D':
			b.Type, b.Parent = backup.Differential, full
		case 'I':
			b.Type, b.Parent = backup.Incremental, last
		}
		last = b.ID
		all = append(all, b)
	}
	return all
}

func TestFullsAndDifferentials(t *testing.T) {
	tests := []struct {
		types              string
		full, differential int
		keep               string
	}{
		{"FIIFII", 1, 0, "03F 04I 05I"},
		{"FIIFIIFII", 2, 0, "03F 04I 05I 06F 07I 08I"},
		{"FDIFDI", 1, 0, "03F 04D 05I"},
		{"FII", 2, 0, "00F 01I 02I"}, // fewer full ones
		{"III", 1, 0, "00I 01I 02I"},
		{"FDIDIDI", 1, 1, "00F 05D 06I"},
		{"FDIDIDI", 1, 2, "00F 03D 04I 05D 06I"},
		{"FIIDIDI", 1, 1, "00F 01I 02I 05D 06I"}, // what was built on the full one alone stays with it
		{"FDDFID", 2, 2, "00F 03F 04I 05D"},      // the full one counts
		{"FDDFID", 1, 9, "03F 04I 05D"},          // what is left of the full one goes with it
		{"FDIDIII", 1, 1, "00F 03D 04I 05I 06I"}, // through others
		{"FDIDIDI", 1, 3, "00F 01D 02I 03D 04I 05D 06I"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %d %d", tt.types, tt.full, tt.differential), func(t *testing.T) {
			d := decide(t, retention.Policy{KeepFull: tt.full, KeepDifferential: tt.differential}, chain(tt.types), nil)
			require.Equal(t, tt.keep, strings.Join(kept(d), " "))
		})
	}
}

// TestBuiltOnWhatGoes: what ends after the oldest full one that is kept, but was built on one before, goes with that one.
func TestBuiltOnWhatGoes(t *testing.T) {
	all := chain("FDFII")
	all[3].Parent = all[1].ID // on another timeline, say
	d := decide(t, retention.Policy{KeepFull: 1, KeepDifferential: 9}, all, nil)
	require.Equal(t, "02F 04I", strings.Join(kept(d), " "))
}

// TestOwnAncestor: a manifest that names itself, or one after it, as its parent ends in no endless search.
func TestOwnAncestor(t *testing.T) {
	all := chain("FII")
	all[1].Parent, all[2].Parent = all[2].ID, all[2].ID
	d := decide(t, retention.Policy{KeepFull: 1, KeepDifferential: 1}, all, nil)
	require.Equal(t, "00F 02I", strings.Join(kept(d), " ")) // the newest is kept anyhow
}

func TestCalendar(t *testing.T) {
	zone := func(name string) retention.Zone {
		l, err := time.LoadLocation(name)
		require.NoError(t, err)
		return retention.Zone{Location: l}
	}
	vienna := zone("Europe/Vienna")
	tests := []struct {
		name   string
		policy retention.Policy
		times  []string
		keep   string // their numbers, from 0
	}{
		{"the newest of a day", retention.Policy{KeepDaily: 9}, []string{"2026-03-01T01:00:00Z", "2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z"}, "1 2"},
		{"days without a backup do not count", retention.Policy{KeepDaily: 2}, []string{"2024-03-01T01:00:00Z", "2025-03-01T01:00:00Z", "2026-03-02T00:00:00Z"}, "1 2"},
		{"days of the zone", retention.Policy{KeepDaily: 9, Zone: vienna}, []string{"2026-03-01T22:59:59Z", "2026-03-01T23:00:00Z", "2026-03-02T00:00:00Z"}, "0 2"},
		{"the day of 23 hours", retention.Policy{KeepDaily: 9, Zone: vienna}, []string{"2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"}, "0 2 3"},
		{"the day of 25 hours", retention.Policy{KeepDaily: 9, Zone: vienna}, []string{"2025-10-25T21:59:59Z", "2025-10-25T22:00:00Z", "2025-10-26T22:59:59Z", "2025-10-26T23:00:00Z"}, "0 2 3"},
		{"the hour that comes twice", retention.Policy{KeepHourly: 9, Zone: vienna}, []string{"2025-10-26T00:10:00Z", "2025-10-26T00:50:00Z", "2025-10-26T01:10:00Z", "2025-10-26T01:50:00Z", "2025-10-26T02:00:00Z"}, "1 3 4"},
		{"the hour that never comes", retention.Policy{KeepHourly: 9, Zone: vienna}, []string{"2026-03-29T00:10:00Z", "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-03-29T01:59:59Z"}, "1 3"},
		{"clocks that go back half an hour", retention.Policy{KeepHourly: 9, Zone: zone("Australia/Lord_Howe")}, []string{"2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"}, "0 1"},
		{"hours of a zone of a half", retention.Policy{KeepHourly: 9, Zone: zone("Asia/Kolkata")}, []string{"2026-01-01T00:29:59Z", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"}, "0 2"},
		{"leap day", retention.Policy{KeepDaily: 9}, []string{"2024-02-28T12:00:00Z", "2024-02-29T12:00:00Z", "2024-03-01T12:00:00Z"}, "0 1 2"},
		{"the month of the leap day", retention.Policy{KeepMonthly: 9}, []string{"2024-02-28T12:00:00Z", "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z"}, "1 2"},
		{"week 53 goes on into January", retention.Policy{KeepWeekly: 9}, []string{"2020-12-27T23:59:59Z", "2020-12-28T00:00:00Z", "2021-01-03T23:59:59Z", "2021-01-04T00:00:00Z"}, "0 2 3"},
		{"week 1 begins in December", retention.Policy{KeepWeekly: 9}, []string{"2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z", "2025-01-06T12:00:00Z"}, "0 2 3"},
		{"weeks of the same number", retention.Policy{KeepWeekly: 9}, []string{"2024-01-01T12:00:00Z", "2024-12-31T12:00:00Z"}, "0 1"},
		{"years of the zone", retention.Policy{KeepYearly: 9, Zone: vienna}, []string{"2025-12-31T22:59:59Z", "2025-12-31T23:00:00Z", "2026-01-01T00:00:00Z"}, "0 2"},
		{"several in a second: by ID", retention.Policy{KeepHourly: 1}, []string{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"}, "2"},
		{"within", retention.Policy{KeepWithin: 24 * time.Hour}, []string{"2026-11-20T11:59:59Z", "2026-11-20T12:00:00Z", "2026-11-21T11:00:00Z"}, "1 2"},
		{"rules add up", retention.Policy{KeepYearly: 2, KeepLast: 2}, []string{"2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"}, "2 3 4"},
		{"a clock that was ahead", retention.Policy{KeepDaily: 1, KeepWithin: time.Hour}, []string{"2026-11-21T11:30:00Z", "2027-01-01T00:00:00Z"}, "0 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []*backup.Summary
			for i, at := range tt.times {
				b := summary(fmt.Sprint(i), 90-i)
				stopped, err := time.Parse(time.RFC3339, at)
				require.NoError(t, err)
				b.StartedAt, b.StoppedAt = stopped.Add(-time.Minute), stopped
				all = append(all, b)
			}
			require.Equal(t, tt.keep, strings.Join(kept(decide(t, tt.policy, all, nil)), " "))
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		policy retention.Policy
		field  string
	}{
		{retention.Policy{KeepLast: -1}, "keep_last"},
		{retention.Policy{KeepFull: -1}, "keep_full"},
		{retention.Policy{KeepFull: 1, KeepDifferential: -1}, "keep_differential"},
		{retention.Policy{KeepDifferential: 1}, "keep_differential"},
		{retention.Policy{KeepHourly: -1}, "keep_hourly"},
		{retention.Policy{KeepDaily: -1}, "keep_daily"},
		{retention.Policy{KeepWeekly: -1}, "keep_weekly"},
		{retention.Policy{KeepMonthly: -1}, "keep_monthly"},
		{retention.Policy{KeepYearly: -1}, "keep_yearly"},
		{retention.Policy{KeepWithin: -1}, "keep_within"},
		{retention.Policy{Window: -1}, "window"},
		{retention.Policy{KeepWAL: -1}, "keep_wal"},
		{retention.Policy{KeepWAL: time.Hour, Window: 2 * time.Hour}, "keep_wal"},
	}
	for _, tt := range tests {
		d, err := tt.policy.Decide([]*backup.Summary{summary("a", 1)}, nil, noon)
		var refused *retention.PolicyError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, tt.field, refused.Field)
		require.ErrorContains(t, err, tt.field)
		require.Empty(t, d)
	}
	require.NoError(t, retention.Policy{}.Validate())
	require.NoError(t, retention.Policy{KeepFull: 1, KeepDifferential: 2, Window: time.Hour, KeepWAL: time.Hour}.Validate())
}

func TestZone(t *testing.T) {
	var z retention.Zone
	require.Error(t, z.UnmarshalText([]byte("Nowhere/At_All")))
	_, err := json.Marshal(retention.Zone{Location: time.FixedZone("mine", 3600)})
	var failed *json.MarshalerError
	require.ErrorAs(t, err, &failed)
	text, err := z.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "UTC", string(text))
}

func TestDecisionJSON(t *testing.T) {
	d := decide(t, retention.Policy{KeepLast: 1}, chain("FF"), []wal.Coverage{{
		System: wal.System{ID: 7, SegmentSize: wal.DefaultSegmentSize},
		Timelines: []wal.TimelineCoverage{{Timeline: 1, Ranges: []wal.Range{{
			First: wal.Segment{Timeline: 1, Number: 0x60, Size: wal.DefaultSegmentSize}, Last: wal.Segment{Timeline: 1, Number: 0x64, Size: wal.DefaultSegmentSize},
		}}}},
	}})
	text, err := json.Marshal(d)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"keep": [{"id": "01F", "reasons": ["the newest backup", "the newest on the way to timeline 1, which is the newest", "number 1 of the last 1"]}],
		"drop": [{"id": "00F", "reasons": ["no rule keeps it"]}],
		"wal_floor": [{"system_id": "7", "timeline": 1, "segment": "000000010000000000000063"}],
		"wal_keep": [{"system_id": "7", "timeline": 1, "from": "000000010000000000000063", "reason": "recovery from backup 01F on reads it"}],
		"wal_drop": [{"system_id": "7", "timeline": 1, "from": "000000010000000000000060", "to": "000000010000000000000062", "reason": "no kept backup needs it"}]
	}`, string(text))
	empty, err := retention.Policy{}.Decide(nil, nil, noon)
	require.NoError(t, err)
	text, err = json.Marshal(empty)
	require.NoError(t, err)
	require.JSONEq(t, `{"keep": [], "drop": [], "wal_floor": [], "wal_keep": [], "wal_drop": []}`, string(text))
}
