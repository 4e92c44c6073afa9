package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

const walPage = 8192

// read returns the positions of the records in content, and what reading them ended with.
func positions(content []byte, o *wal.RecordOptions) ([]wal.LSN, error) {
	at := []wal.LSN{}
	for r, err := range wal.Records(bytes.NewReader(content), o) {
		if err != nil {
			return at, err
		}
		at = append(at, r.LSN)
	}
	return at, nil
}

// Any flipped bit of a record or a page header is noticed, and what comes before it is read.
func TestRecordsNoticeDamage(t *testing.T) {
	t.Parallel()
	for name, seed := range seeds(t, "records", "pg*") {
		want, err := positions(seed, nil)
		require.NoError(t, err, name)
		require.Greater(t, len(want), 20, name)
		header, err := wal.ReadHeader(bytes.NewReader(seed))
		require.NoError(t, err)
		for at := 24; at < len(seed)-2*walPage; at += 131 {
			b := bytes.Clone(seed)
			b[at] ^= 1 << (at % 8)
			got, err := positions(b, nil)
			if err == nil {
				// What belongs to an earlier record, what fills up to the next, and hints in a page header are not covered.
				require.Equal(t, want, got, "%s: byte %d", name, at)
				require.True(t, at%walPage < 24 || header.Start+wal.LSN(at) < want[0] || unused(seed, header, at), "%s: byte %d", name, at)
				continue
			}
			require.Equal(t, want[:len(got)], got, "%s: byte %d", name, at)
			require.Less(t, len(got), len(want))
			require.GreaterOrEqual(t, header.Start+wal.LSN(at)+walPage, want[len(got)], "%s: byte %d", name, at)
			var e *wal.RecordError
			if at >= 40 {
				require.ErrorAs(t, err, &e, "%s: byte %d", name, at)
			}
		}
	}
}

// unused tells whether a byte is what fills up to the next record, or follows a switch.
func unused(seed []byte, h wal.Header, at int) bool {
	pos := h.Start + wal.LSN(at)
	for r, err := range wal.Records(bytes.NewReader(seed), nil) {
		if err != nil || pos < r.LSN || pos >= r.End {
			continue
		}
		p, _ := r.Payload()
		_, switched := p.(*wal.Switch)
		return switched && pos >= r.LSN+24 || r.End-pos < 8
	}
	return false
}

func TestRecordsEnd(t *testing.T) {
	t.Parallel()
	for name, seed := range seeds(t, "records", "pg*") {
		all, err := positions(seed, nil)
		require.NoError(t, err)
		for _, cut := range []int{0, 10, 40, 41, walPage, walPage + 1, 3*walPage - 1, len(seed) - walPage} {
			got, err := positions(seed[:cut], nil)
			require.NoError(t, err)
			require.Equal(t, all[:len(got)], got)
		}
		for what, tail := range map[string][]byte{"zeros": make([]byte, walPage), "an old page": seed[:walPage]} {
			got, err := positions(append(bytes.Clone(seed[:walPage]), tail...), nil)
			require.ErrorIs(t, err, wal.ErrEndOfWAL, "%s, %s", name, what)
			require.Equal(t, all[:len(got)], got)
			require.NotEmpty(t, got)
		}
	}
}

func TestRecordsAreAskedForOneByOne(t *testing.T) {
	t.Parallel()
	seed := seeds(t, "records", "pg18")["pg18"]
	n := 0
	for range wal.Records(bytes.NewReader(seed), nil) {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
	broken := errors.New("broken")
	var last error
	for _, err := range wal.Records(io.MultiReader(bytes.NewReader(seed[:walPage]), iotest.ErrReader(broken)), nil) {
		last = err
	}
	require.ErrorIs(t, last, broken)
	var e *wal.RecordError
	require.NotErrorAs(t, last, &e)
}

func TestRecordsRefuseLongOnes(t *testing.T) {
	t.Parallel()
	for name, seed := range seeds(t, "records", "pg*") {
		_, err := positions(seed, &wal.RecordOptions{MaxLength: 100})
		var e *wal.RecordError
		require.ErrorAs(t, err, &e, name)
		require.ErrorContains(t, err, "at most 100")
	}
}

// A record whose end a crashed server never wrote is passed over where the next page says so.
func TestRecordsPassOverWhatWasNeverEnded(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	for name, seed := range seeds(t, "records", "pg*") {
		header, err := wal.ReadHeader(bytes.NewReader(seed))
		require.NoError(t, err)
		for page := walPage; page < len(seed); page += walPage {
			if le.Uint16(seed[page+2:])&1 == 0 {
				continue
			}
			before, err := positions(seed[:page], nil)
			require.NoError(t, err)
			if len(before) == 0 {
				continue
			}
			// A page that begins with a record of its own.
			b := bytes.Clone(seed[:page+walPage])
			le.PutUint16(b[page+2:], 8)
			le.PutUint32(b[page+16:], 0)
			clear(b[page+24:])
			at := header.Start + wal.LSN(page) + 24
			copy(b[page+24:], wal.EmptyRecord(before[len(before)-1]))
			got, err := positions(b, nil)
			require.ErrorIs(t, err, wal.ErrEndOfWAL, "%s: %s", name, at)
			require.Equal(t, append(before, at), got, name)

			le.PutUint16(b[page+2:], 0)
			_, err = positions(b, nil)
			require.ErrorContains(t, err, "are to come", fmt.Sprint(name, page))
		}
	}
}
