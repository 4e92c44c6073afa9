package wal_test

import (
	"bytes"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
)

// benchmarkWAL is real WAL of a mixed load, in whole segments.
func benchmarkWAL(b *testing.B) []byte {
	b.Helper()
	c := pgtest.New(b, &pgtest.Options{Major: pgtest.Newest(), Conf: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}})
	c.Exec(b, "CREATE TABLE t (id serial PRIMARY KEY, a int, b text)", "CREATE INDEX ON t (a)",
		"INSERT INTO t (a, b) SELECT random() * 1e9, md5(i::text) FROM generate_series(1, 100000) i", "CHECKPOINT",
		"UPDATE t SET a = a + 1 WHERE id % 3 = 0", "SELECT pg_switch_wal()")
	return liveWAL(b, c)
}

// BenchmarkRecords reads records, and decodes what there is to decode.
func BenchmarkRecords(b *testing.B) {
	content := benchmarkWAL(b)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		n := 0
		for r, err := range wal.Records(bytes.NewReader(content), nil) {
			if err == nil {
				_, err = r.Payload()
			}
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		b.ReportMetric(float64(len(content))/float64(n), "B/record")
	}
}

// BenchmarkIndex indexes segments.
func BenchmarkIndex(b *testing.B) {
	content := benchmarkWAL(b)
	const size = wal.DefaultSegmentSize
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		for at := 0; at < len(content); at += size {
			s := wal.Segment{Timeline: 1, Number: uint64(1 + at/size), Size: size}
			ix, err := wal.IndexSegment(s, bytes.NewReader(content[at:at+size]))
			if err != nil || ix.Damage != "" {
				b.Fatal(err, ix.Damage)
			}
		}
	}
}
