package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// largePack writes a pack of 15 frames of about a MiB that do not shrink.
func largePack(t *testing.T, g *rig) (repo.Pack, [][]byte) {
	t.Helper()
	frames := make([][]byte, 15)
	for i := range frames {
		frames[i] = noise(repo.FrameSize-i, uint64(i))
	}
	p, err := writePack(t.Context(), g.w, "packs/large", frames...)
	require.NoError(t, err)
	return p, frames
}

// readSome reads frames of a pack.
func readSome(ctx context.Context, r *repo.Repo, p repo.Pack, wanted ...int) (map[int][]byte, error) {
	got := map[int][]byte{}
	err := r.ReadFrames(ctx, p, func(i int) bool { return slices.Contains(wanted, i) }, func(i int, raw []byte) error {
		got[i] = slices.Clone(raw)
		return nil
	})
	return got, err
}

// Of a pack that is needed in part no more is read than that, and a little, in few requests.
func TestReadFramesReadsRanges(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		p, frames := largePack(t, g)
		var opened int
		var read int64
		r := g.reader(t, repo.Observe(g.store, func(o repo.Op) {
			if o.Name == "open" && o.Key == p.Key {
				opened, read = opened+1, read+o.Bytes
			}
		}))
		tests := []struct {
			wanted               []int
			requests, mebibytes  int // of bytes, at most
			encRequests, encMebi int // of an encrypted pack
		}{
			{nil, 0, 0, 0, 0},
			{[]int{0}, 1, 1, 3, 1},
			{[]int{14}, 1, 1, 3, 1},
			{[]int{7}, 1, 1, 3, 1},
			{[]int{3, 5}, 1, 3, 3, 3},
			{[]int{0, 14}, 2, 2, 4, 2},
			{[]int{0, 1, 7, 8, 14}, 3, 5, 5, 5},
			{[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 1, 15, 1, 15},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprint(tt.wanted), func(t *testing.T) {
				opened, read = 0, 0
				got, err := readSome(t.Context(), r, p, tt.wanted...)
				require.NoError(t, err)
				require.Len(t, got, len(tt.wanted))
				for i, raw := range got {
					require.True(t, slices.Equal(frames[i], raw), i)
				}
				requests, mebibytes := tt.requests, tt.mebibytes
				if g.encrypted {
					requests, mebibytes = tt.encRequests, tt.encMebi
				}
				require.Equal(t, requests, opened)
				require.LessOrEqual(t, read, int64(mebibytes)<<20+512<<10)
			})
		}
	})
}

// What is wanted is checked, and a failure to read is neither damage nor an answer.
func TestReadFramesFails(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		ctx := t.Context()
		p, _ := largePack(t, g)
		object := storedBytes(t, g.store, p.Key)
		damaged := slices.Clone(object)
		damaged[int64(len(damaged))/15*7+1000] ^= 1
		for name, bad := range map[string][]byte{
			"damaged": damaged, "cut": object[:len(object)/2-1<<20], "longer": append(slices.Clone(object), make([]byte, 1000)...),
			"empty": {}, "another": noise(len(object), 1),
		} {
			s := &replaced{Store: g.store, key: p.Key, data: bad}
			_, err := readSome(ctx, g.reader(t, s), p, 7)
			if name == "longer" && err == nil {
				continue // what is behind was not asked for
			}
			requireCorrupt(t, err, p.Key)
		}
		missing := p
		missing.Key = "packs/missing"
		_, err := readSome(ctx, g.r, missing, 7)
		require.ErrorIs(t, err, fs.ErrNotExist)

		for n := 1; ; n++ {
			s := repotest.Faulty(g.store, repotest.Fault{Key: p.Key, Nth: n, Do: repotest.Fail(nil)})
			_, err := readSome(ctx, g.reader(t, s), p, 7)
			if s.Struck() == 0 {
				require.NoError(t, err)
				require.Greater(t, n, 1)
				break
			}
			requireOutage(t, err)
		}
		for _, cut := range []int64{0, 1, 100, 5000, 40_000, 500_000} {
			for n := range 3 {
				s := repotest.Faulty(g.store, repotest.Fault{Key: p.Key, Op: repotest.OpOpen, Nth: n + 1, Do: repotest.Cut(cut)})
				_, err := readSome(ctx, g.reader(t, s), p, 7)
				if s.Struck() == 0 || err == nil { // there are fewer calls, or what was cut off is not needed
					continue
				}
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				var corrupt *repo.CorruptError
				require.NotErrorAs(t, err, &corrupt)
				requireNoAnswerAtAll(t, err)
			}
		}
		boom := errors.New("boom")
		require.ErrorIs(t, g.r.ReadFrames(ctx, p, func(i int) bool { return i == 7 }, func(int, []byte) error { return boom }), boom)
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = readSome(cancelled, g.reader(t, g.store), p, 7)
		require.ErrorIs(t, err, context.Canceled)
		wrong := p
		wrong.Frames = slices.Clone(p.Frames)
		wrong.Frames[3].Stored++
		_, err = readSome(ctx, g.r, wrong, 7)
		requireCorrupt(t, err, p.Key)
	})
}
