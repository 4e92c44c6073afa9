package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

func TestErrorsOnTheirWay(t *testing.T) {
	inner := errors.New("inner")
	for _, err := range []error{
		&wal.ConflictError{Name: "N", Archived: [32]byte{1}, Offered: [32]byte{31: 2}},
		&wal.ForeignError{Name: "N", Got: 1<<64 - 1, Want: 1},
		&wal.ForeignError{Name: "N", Got: 2, Want: 1, Earlier: true},
		&wal.SegmentError{Name: "N", Err: inner},
		&wal.NameError{Name: "N", Reason: "because"},
		&repo.CorruptError{Key: "k", Err: inner},
		&wal.ServerError{Text: "x"},
	} {
		for _, do := range []string{"push", "fetch"} {
			_, _, got := wal.Answered(do, fmt.Errorf("around: %w", err))
			if e := (*wal.ServerError)(nil); errors.As(err, &e) {
				require.EqualError(t, got, "around: x")
				continue
			}
			require.Equal(t, err, got)
		}
	}
	size, _, err := wal.Answered("fetch", nil)
	require.NoError(t, err)
	require.EqualValues(t, 7, size)
	_, _, err = wal.Answered("fetch", fmt.Errorf("gone: %w", fs.ErrNotExist))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "gone: file does not exist")
	_, _, err = wal.Answered("push", fs.ErrNotExist)
	requireNoAnswer(t, err)

	for _, long := range []string{strings.Repeat("x", 1<<20), strings.Repeat("\x00", 1<<20), strings.Repeat("ü", 1<<20), "\xff\xfe"} {
		for _, err := range []error{errors.New(long), &wal.NameError{Name: long, Reason: long}, &wal.ConflictError{Name: long}, &repo.CorruptError{Key: long, Err: errors.New(long)}} {
			_, line, got := wal.Answered("push", err)
			requireNoAnswer(t, got)
			require.LessOrEqual(t, len(line), 32<<10)
			require.True(t, utf8.Valid(line))
			require.Equal(t, 1, bytes.Count(line, []byte("\n")))
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"do":"push","name":"000000010000000000000001"}`))
	f.Add([]byte(`{"version":1,"do":"fetch","name":"00000002.history"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		do, n, err := wal.AnswerTo(line)
		if err == nil {
			require.Contains(t, []string{"push", "fetch"}, do)
			again, err := wal.ParseName(n.String())
			require.NoError(t, err)
			require.Equal(t, n, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("fetch", []byte(`{"version":1,"ok":true,"size":1048576}`))
	f.Add("fetch", []byte(`{"version":1,"error":{"kind":"missing","text":"x"}}`))
	f.Add("push", []byte(`{"version":1,"error":{"kind":"foreign","got":"7","want":"8"}}`))
	_, line, _ := wal.Answered("push", &wal.ConflictError{Name: "N"})
	f.Add("push", line)
	f.Fuzz(func(t *testing.T, do string, line []byte) {
		size, err := wal.ParseAnswer(do, line)
		switch {
		case err == nil:
			require.GreaterOrEqual(t, size, int64(0))
			require.Contains(t, string(line), "true")
		case errors.Is(err, fs.ErrNotExist):
			require.Equal(t, "fetch", do)
		}
	})
}
