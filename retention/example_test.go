package retention_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

func ExamplePolicy_Decide() {
	policy := retention.Policy{KeepMonthly: 2, Window: 7 * 24 * time.Hour}
	all := []*backup.Summary{summary("a", 60), summary("b", 30), summary("c", 10), summary("d", 1)}
	archive := wal.Coverage{System: wal.System{ID: 7, SegmentSize: wal.DefaultSegmentSize}, Timelines: []wal.TimelineCoverage{{
		Timeline: 1, Ranges: []wal.Range{{First: all[0].FirstSegment(), Last: all[3].LastSegment()}},
	}}}
	d, err := policy.Decide(all, []wal.Coverage{archive}, noon)
	if err != nil {
		panic(err)
	}
	for _, v := range d.Keep {
		fmt.Println("keep", v.Backup, v.Reasons)
	}
	for _, v := range d.Drop {
		fmt.Println("drop", v.Backup, v.Reasons)
	}
	for _, s := range d.DropWAL {
		fmt.Println("drop", s.First, "to", s.Last)
	}
	// Output:
	// keep b [number 2 of 2 monthly: 2026-10]
	// keep c [leads to the beginning of the window of 168h0m0s on the way to timeline 1]
	// keep d [the newest backup the newest on the way to timeline 1, which is the newest number 1 of 2 monthly: 2026-11 within the window of 168h0m0s]
	// drop a [no rule keeps it]
	// drop 000000010000000000000028 to 000000010000000000000045
}

func ExamplePolicy_Validate() {
	fmt.Println(retention.Policy{Window: 30 * 24 * time.Hour, KeepWAL: 7 * 24 * time.Hour}.Validate())
	// Output:
	// retention: keep_wal is 168h0m0s, and the window of 720h0m0s needs WAL for as long: shorten the window, or keep WAL longer
}

func ExampleZone() {
	var policy retention.Policy
	if err := json.Unmarshal([]byte(`{"keep_daily": 7, "time_zone": "Europe/Vienna"}`), &policy); err != nil {
		panic(err)
	}
	text, err := json.Marshal(policy)
	fmt.Println(string(text), err)
	// Output:
	// {"keep_daily":7,"time_zone":"Europe/Vienna"} <nil>
}

func ExampleSpan_Has() {
	policy := retention.Policy{KeepLast: 1}
	d, err := policy.Decide([]*backup.Summary{summary("a", 9), summary("b", 1)}, nil, noon)
	if err != nil {
		panic(err)
	}
	s := wal.SegmentAt(1, summary("a", 9).StartLSN, wal.DefaultSegmentSize)
	fmt.Println(s, d.WAL[0].Has(7, s))
	// Output:
	// 00000001000000000000005B false
}
