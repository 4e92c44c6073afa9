package wal_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/wal"
)

// names are the names of what the archive_command of real servers was given.
func names(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, list := range seeds(t, "name", "pg*") {
		all = append(all, strings.Fields(string(list))...)
	}
	return all
}

func FuzzParseName(f *testing.F) {
	for _, name := range names(f) {
		f.Add(name, uint32(16<<20))
	}
	f.Fuzz(func(t *testing.T, text string, size uint32) {
		n, err := wal.ParseName(text)
		var e *wal.NameError
		if err != nil {
			if !errors.As(err, &e) || e.Name != text {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if n.String() != text || strings.ContainsAny(text, "/\\\x00") || len(text) > 40 || n.Timeline == 0 {
			t.Errorf("accepted %q as %q", text, n)
		}
		s, err := n.Segment(size)
		if err != nil {
			return
		}
		if n.Kind == wal.KindHistory || s.Timeline != n.Timeline || s.Name() != text[:24] || s.Start()%wal.LSN(size) != 0 {
			t.Errorf("%q, %d bytes: %+v", text, size, s)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	for name, b := range seeds(f, "history", "*.history") {
		_, file, _ := strings.Cut(name, "-")
		f.Add(uint32(parseName(f, file).Timeline), b)
	}
	f.Fuzz(func(t *testing.T, timeline uint32, b []byte) {
		h, err := wal.ParseHistory(wal.Timeline(timeline), b)
		if err != nil {
			return
		}
		if h.Timeline != wal.Timeline(timeline) || timeline > 1 && len(h.Forks) == 0 {
			t.Fatalf("accepted %+v", h)
		}
		at, parent := wal.LSN(1), wal.Timeline(0)
		for _, fork := range h.Forks {
			if fork.At < at || fork.Timeline <= parent || fork.Timeline >= h.Timeline {
				t.Fatalf("accepted %+v", h)
			}
			if until, ok := h.Until(fork.Timeline); !ok || until != fork.At {
				t.Fatalf("%+v is left at %s, %v", fork, until, ok)
			}
			if before := h.At(fork.At - 1); before > fork.Timeline {
				t.Fatalf("%+v: on timeline %d before it", fork, before)
			}
			if after := h.At(fork.At); after <= fork.Timeline {
				t.Fatalf("%+v: on timeline %d after it", fork, after)
			}
			at, parent = fork.At, fork.Timeline
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	for _, b := range seeds(f, "header", "pg*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wal.ReadHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		s := wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize)
		if h.Major() < 13 || h.Timeline == 0 || !wal.ValidSegmentSize(h.SegmentSize) || s.Start() != h.Start {
			t.Errorf("accepted %+v", h)
		}
	})
}

func FuzzParseLSN(f *testing.F) {
	for _, b := range seeds(f, "history", "*.history") {
		for line := range strings.Lines(string(b)) {
			if fields := strings.Fields(line); len(fields) > 1 {
				f.Add(fields[1])
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := wal.ParseLSN(text)
		if err != nil {
			return
		}
		again, err := wal.ParseLSN(lsn.String())
		if err != nil || again != lsn || len(text) > 17 {
			t.Errorf("%q is %s is %s, %v", text, lsn, again, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, name := range names(f) {
		f.Add(wal.Key(cluster, parseName(f, name)))
	}
	f.Fuzz(func(t *testing.T, key string) {
		n, err := wal.ParseKey(cluster, key)
		if err == nil && wal.Key(cluster, n) != key {
			t.Errorf("%q is %s, whose key is %q", key, n, wal.Key(cluster, n))
		}
	})
}

// FuzzRecords reads WAL of real servers with a mistake in it.
func FuzzRecords(f *testing.F) {
	for _, b := range seeds(f, "records", "pg*") {
		f.Add(b, uint32(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint32) {
		if len(b) > 0 {
			b = bytes.Clone(b)
			b[int(at)%len(b)] ^= 0x10
		}
		last := wal.LSN(0)
		var failed error
		for r, err := range wal.Records(bytes.NewReader(b), &wal.RecordOptions{MaxLength: 1 << 20}) {
			if failed != nil {
				t.Fatalf("more after %v", failed)
			}
			if failed = err; err != nil {
				continue
			}
			if r.LSN < last || r.End <= r.LSN || len(r.Data) > int(r.Length) {
				t.Fatalf("%+v after %s", r, last)
			}
			last = r.End
			var e *wal.RecordError
			if _, err := r.Payload(); err != nil && !errors.As(err, &e) { // the page may say that it is of another version
				t.Fatal(err)
			}
		}
	})
}

// FuzzRecord decodes records that are not as PostgreSQL writes them, though their checksum is right.
func FuzzRecord(f *testing.F) {
	for name, b := range seeds(f, "records", "pg*") {
		major, err := strconv.Atoi(name[2:4])
		if err != nil {
			f.Fatal(err)
		}
		n := 0
		for r, err := range wal.Records(bytes.NewReader(b), nil) {
			if err != nil {
				f.Fatal(name, err)
			}
			if p, _ := r.Payload(); (p != nil || n%100 == 0) && r.Length < 2000 {
				f.Add(wal.Raw(b, r), major)
			}
			n++
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, major int) {
		r, err := wal.ParseRecord(b, 13+int(uint(major)%6))
		if err != nil {
			return
		}
		if len(r.Data) > len(b) || len(r.Blocks) > len(b) {
			t.Fatalf("%+v", r)
		}
		p, err := r.Payload()
		var e *wal.RecordError
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if x, ok := p.(*wal.Transaction); ok && 4*len(x.Subxacts)+12*len(x.Dropped)+len(x.GID) > len(b) {
			t.Fatalf("%+v of %d bytes", x, len(b))
		}
	})
}

// FuzzIndex decodes indexes of real segments with mistakes in them.
func FuzzIndex(f *testing.F) {
	for name, b := range seeds(f, "records", "pg*") {
		h, err := wal.ReadHeader(bytes.NewReader(b))
		if err != nil {
			f.Fatal(name, err)
		}
		for _, n := range []int{walPage, 3 * walPage, len(b)} {
			ix, err := wal.IndexSegment(wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize), bytes.NewReader(b[:n]))
			if err != nil {
				f.Fatal(name, err)
			}
			encoded, err := ix.MarshalBinary()
			if err != nil {
				f.Fatal(name, err)
			}
			f.Add(encoded)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var ix, again wal.Index
		if err := ix.UnmarshalBinary(b); err != nil {
			return
		}
		encoded, err := ix.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalBinary(encoded); err != nil {
			t.Fatal(err)
		}
		if s, err := wal.Summarize(&ix); err == nil {
			for f := range s.Blocks.Files() {
				_ = s.Blocks.Changed(f)
			}
		}
	})
}

func FuzzRollUp(f *testing.F) {
	for name, b := range seeds(f, "records", "pg*") {
		h, err := wal.ReadHeader(bytes.NewReader(b))
		if err != nil {
			f.Fatal(name, err)
		}
		s := wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize)
		ix, err := wal.IndexSegment(s, bytes.NewReader(b))
		if err != nil {
			f.Fatal(name, err)
		}
		encoded, err := wal.EncodeRollUp(ix)
		if err != nil {
			f.Fatal(name, err)
		}
		f.Add(encoded, uint32(s.Timeline), s.Number)
	}
	f.Fuzz(func(t *testing.T, b []byte, timeline uint32, number uint64) {
		s := wal.Segment{Timeline: wal.Timeline(timeline), Number: number % (1 << 40), Size: wal.MinSegmentSize}
		fronts, err := wal.DecodeRollUp(b, s, false)
		whole, failed := wal.DecodeRollUp(b, s, true)
		if err != nil && failed == nil {
			t.Fatal(err)
		}
		for n, ix := range whole {
			if ix.Segment.Number != n || fronts[n].Segment != ix.Segment {
				t.Fatal(ix.Segment)
			}
		}
	})
}
