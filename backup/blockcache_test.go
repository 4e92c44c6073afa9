package backup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeSession is one whose files have any number of bytes that tell where they are, or some.
type fakeSession struct {
	size int64        // 0: no end
	read atomic.Int64 // bytes
}

func (s *fakeSession) Start() Start                                  { return Start{} }
func (s *fakeSession) Stop(context.Context) (Stop, error)            { return Stop{}, nil }
func (s *fakeSession) Close() error                                  { return nil }
func (s *fakeSession) Open(context.Context, string) (Content, error) { return fakeFile{s}, nil }

type fakeFile struct{ s *fakeSession }

func (f fakeFile) Close() error { return nil }

func (f fakeFile) ReadAt(p []byte, off int64) (n int, err error) {
	f.s.read.Add(int64(len(p)))
	if f.s.size > 0 && off+int64(len(p)) > f.s.size {
		p, err = p[:max(0, f.s.size-off)], io.EOF
	}
	for i := 0; i < len(p); i += 4096 {
		p[i] = byte((off + int64(i)) >> 12)
	}
	return len(p), err
}

// sharers are so many that share a fakeSession.
func sharers(ctx context.Context, s *fakeSession, n int, whole bool) []*sharer {
	a := newShared(ctx, nil, 5*time.Minute, whole)
	a.session = s
	all := make([]*sharer, n)
	for i := range all {
		all[i] = a.join(i, ctx, func(error) {})
	}
	return all
}

// readChunks has a sharer read chunks of a megabyte of a file, some of them beside each other, and leave.
func readChunks(t *testing.T, m *sharer, path string, numbers []int, jobs int) {
	t.Helper()
	content, err := m.Open(t.Context(), path)
	require.NoError(t, err)
	var group sync.WaitGroup
	next := make(chan int)
	for range jobs {
		group.Go(func() {
			buf := make([]byte, 1<<20)
			for i := range next {
				n, err := content.ReadAt(buf, int64(i)<<20)
				if err != nil || n != len(buf) || buf[0] != byte(i<<8) || buf[5<<12] != byte(i<<8+5) {
					panic(fmt.Sprint(i, n, err, buf[0]))
				}
			}
		})
	}
	for _, i := range numbers {
		next <- i
	}
	close(next)
	group.Wait()
	m.all.leave(m.number)
}

// However many read beside each other, and whatever each wants, nobody waits for one that waits for him.
func TestSharersDoNotWaitForEachOther(t *testing.T) {
	from := func(first, n int) (all []int) {
		for i := range n {
			all = append(all, first+i)
		}
		return all
	}
	for _, whole := range []bool{false, true} {
		for _, jobs := range []int{1, 64} {
			for name, wanted := range map[string][][]int{
				"the same":   {from(0, 150), from(0, 150)},
				"others":     {from(0, 150), from(1000, 150)},
				"more":       {from(0, 150), append(from(1000, 150), from(0, 150)...)},
				"turned":     {append(from(0, 100), from(1000, 100)...), append(from(1000, 100), from(0, 100)...)},
				"three":      {from(0, 100), from(50, 100), from(1000, 100)},
				"far behind": {append(from(0, 150), from(1000, 150)...), from(1000, 150)},
			} {
				if jobs == 1 && name != "the same" {
					continue
				}
				t.Run(fmt.Sprint(name, ", whole ", whole, ", jobs ", jobs), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := &fakeSession{}
						all := sharers(t.Context(), s, len(wanted), whole)
						begun := time.Now()
						var group sync.WaitGroup
						for i, m := range all {
							group.Go(func() { readChunks(t, m, "x", wanted[i], jobs) })
						}
						group.Wait()
						require.Less(t, time.Since(begun), time.Second)
						require.Zero(t, all[0].all.blocks.held)
						require.Empty(t, all[0].all.blocks.blocks)
						if name == "the same" && jobs == 1 {
							require.Equal(t, int64(150)<<20, s.read.Load())
						}
					})
				})
			}
		}
	}
}

// What is behind the end of a file costs little, and not nothing.
func TestSharersOfSmallFiles(t *testing.T) {
	s := &fakeSession{size: 100}
	all := sharers(t.Context(), s, 2, false)
	for range 2 {
		for i := range 300 {
			content, err := all[0].Open(t.Context(), fmt.Sprint("base/", i))
			require.NoError(t, err)
			n, err := content.ReadAt(make([]byte, 1<<20), 0)
			require.Equal(t, 100, n)
			require.ErrorIs(t, err, io.EOF)
			require.NoError(t, content.Close())
		}
		blocks := all[0].all.blocks
		require.Len(t, blocks.blocks, blocks.oldest.Len())
		require.GreaterOrEqual(t, blocks.held, int64(leastCost*blocks.oldest.Len()))
		require.LessOrEqual(t, blocks.held, int64(sharedBytes))
		slices.Reverse(all)
	}
	require.Zero(t, all[0].all.blocks.held, "both have had all")
	require.Empty(t, all[0].all.opened)
}
