package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
	"github.com/stretchr/testify/require"
)

// fakeStandby is a standby that has of its pg_wal what a test gives it. Its backup ends in the middle of segment 1.
type fakeStandby struct {
	*backuptest.Cluster

	mu    sync.Mutex
	files map[string][]byte
	at    backup.Replay
}

const standbyID = 7000000000000000001 // of backuptest

func newFakeStandby() *fakeStandby {
	return &fakeStandby{Cluster: backuptest.New(nil), files: map[string][]byte{}, at: backup.Replay{Timeline: 1}}
}

// standbySegment is a segment of the fake's timeline.
func standbySegment(number uint64) wal.Segment {
	return wal.Segment{Timeline: 1, Number: number, Size: wal.MinSegmentSize}
}

// has gives the standby a segment, or its first bytes in a recycled file.
func (f *fakeStandby) has(number uint64, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := standbySegment(number)
	content := waltest.Segment(s.Prev(), standbyID, 18)
	copy(content, waltest.Segment(s, standbyID, 18)[:bytes])
	f.files[s.Name()] = content
	f.at.LSN = max(f.at.LSN, s.Start()+wal.LSN(bytes))
}

// lacks takes a segment from the standby.
func (f *fakeStandby) lacks(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, standbySegment(number).Name())
}

func (f *fakeStandby) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	s, err := f.Cluster.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return &fakeStandbySession{s, s.(backup.Lister), f}, nil
}

type fakeStandbySession struct {
	backup.Session
	backup.Lister
	f *fakeStandby
}

func (s *fakeStandbySession) Start() backup.Start {
	start := s.Session.Start()
	start.Standby = true
	return start
}

func (s *fakeStandbySession) Replayed(context.Context) (backup.Replay, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.f.at, nil
}

func (s *fakeStandbySession) Open(ctx context.Context, path string) (backup.Content, error) {
	name, ok := strings.CutPrefix(path, "pg_wal/")
	if !ok {
		return s.Session.Open(ctx, path)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if b, ok := s.f.files[name]; ok {
		return segmentContent{bytes.NewReader(b)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

type segmentContent struct{ io.ReaderAt }

func (segmentContent) Close() error { return nil }

// TestAwaitWAL: the last segment of a backup from a standby is waited for, and taken from whoever has it first.
func TestAwaitWAL(t *testing.T) {
	t.Parallel()
	const whole = wal.MinSegmentSize
	for name, tt := range map[string]struct {
		before func(f *fakeStandby)
		after  time.Duration // when later comes
		later  func(t *testing.T, f *fakeStandby, r *repo.Repo)
		limit  time.Duration // of the context
		warns  string
		want   func(t *testing.T, err error, took time.Duration)
	}{
		"the standby goes on": {
			before: func(f *fakeStandby) { f.has(1, 5000) },
			after:  time.Hour, later: func(_ *testing.T, f *fakeStandby, _ *repo.Repo) { f.has(1, whole); f.has(2, 8192) },
			warns: "pg_switch_wal()",
			want: func(t *testing.T, err error, took time.Duration) {
				require.NoError(t, err)
				require.InDelta(t, time.Hour, took, float64(10*time.Second))
			},
		},
		"the archive has it": {
			before: func(f *fakeStandby) { f.has(1, 5000) },
			after:  time.Second, later: func(t *testing.T, _ *fakeStandby, r *repo.Repo) { archive(t, r, 1) },
			want: func(t *testing.T, err error, _ time.Duration) { require.NoError(t, err) },
		},
		"the archive has it at once": {
			before: func(f *fakeStandby) { f.has(1, 5000) },
			later:  func(t *testing.T, _ *fakeStandby, r *repo.Repo) { archive(t, r, 1) },
			want:   func(t *testing.T, err error, _ time.Duration) { require.NoError(t, err) },
		},
		"both have it, and it differs": {
			before: func(f *fakeStandby) { f.has(1, whole); f.has(2, 8192) },
			later:  func(t *testing.T, _ *fakeStandby, r *repo.Repo) { archiveOther(t, r, 1) },
			want: func(t *testing.T, err error, _ time.Duration) {
				var conflict *wal.ConflictError
				require.ErrorAs(t, err, &conflict)
			},
		},
		"nobody has it, and it ends": {
			before: func(f *fakeStandby) { f.has(1, 5000) }, limit: time.Minute, warns: "pg_switch_wal()",
			want: func(t *testing.T, err error, took time.Duration) {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, time.Minute, took)
			},
		},
		"all is received but a switch, which comes before its zeros": {
			before: func(f *fakeStandby) { f.has(1, 5000); f.at.LSN = standbySegment(1).End() }, limit: time.Minute, warns: "pg_switch_wal()",
			want: func(t *testing.T, err error, _ time.Duration) { require.ErrorIs(t, err, context.DeadlineExceeded) },
		},
		"the file behind it is a recycled one": {
			before: func(f *fakeStandby) { f.has(1, whole-8); f.has(2, 0); f.at.LSN = standbySegment(2).End() }, limit: time.Minute, warns: "pg_switch_wal()",
			want: func(t *testing.T, err error, _ time.Duration) { require.ErrorIs(t, err, context.DeadlineExceeded) },
		},
		"it is promoted": {
			before: func(f *fakeStandby) { f.has(1, 5000) },
			after:  time.Second, later: func(_ *testing.T, f *fakeStandby, _ *repo.Repo) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.at.Promoted = true
			},
			want: func(t *testing.T, err error, _ time.Duration) {
				requirePromoted(t, err, backup.PromotedError{Timeline: 1})
			},
		},
		"it follows a promoted server": {
			before: func(f *fakeStandby) { f.has(1, 5000) },
			after:  time.Second, later: func(_ *testing.T, f *fakeStandby, _ *repo.Repo) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.at = backup.Replay{Timeline: 3, LSN: standbySegment(5).Start()}
			},
			want: func(t *testing.T, err error, _ time.Duration) {
				requirePromoted(t, err, backup.PromotedError{Timeline: 1, Next: 3})
			},
		},
		"it is promoted when all is there": {
			before: func(f *fakeStandby) { f.has(1, whole); f.has(2, 8192); f.at.Promoted = true },
			want:   func(t *testing.T, err error, _ time.Duration) { require.NoError(t, err) },
		},
		"it has removed it": {
			before: func(f *fakeStandby) { f.has(1, whole); f.has(2, whole); f.lacks(1) }, warns: "does the primary archive to this repository?",
			want: func(t *testing.T, err error, took time.Duration) {
				var missing *backup.MissingWALError
				require.ErrorAs(t, err, &missing)
				require.InDelta(t, 5*time.Minute, took, float64(10*time.Second))
			},
		},
		"it has removed it, and the archive gets it late": {
			before: func(f *fakeStandby) { f.has(1, whole); f.has(2, whole); f.lacks(1); f.lacks(2) },
			after:  4 * time.Minute, later: func(t *testing.T, _ *fakeStandby, r *repo.Repo) { archive(t, r, 1) },
			warns: "does the primary archive to this repository?",
			want:  func(t *testing.T, err error, _ time.Duration) { require.NoError(t, err) },
		},
	} {
		each := func(t *testing.T, take func(context.Context, *repo.Repo, backup.Source, *backup.Options) error) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, err := repo.Init(t.Context(), repotest.Mem(nil), nil)
				require.NoError(t, err)
				f := newFakeStandby()
				tt.before(f)
				ctx := t.Context()
				var cancel context.CancelFunc
				if tt.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				if tt.later != nil && tt.after == 0 {
					tt.later(t, f, r)
				} else if tt.later != nil {
					time.AfterFunc(tt.after, func() { tt.later(t, f, r) })
				}
				var log bytes.Buffer
				begun := time.Now()
				err = take(ctx, r, f, &backup.Options{Jobs: 1, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
				tt.want(t, err, time.Since(begun))
				if tt.warns == "" {
					require.Empty(t, log.String())
				} else {
					require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
					require.Contains(t, log.String(), tt.warns)
				}
				if err != nil {
					requireNoAnswer(t, err)
					require.Empty(t, keys(t, r.Store(), "backups/"))
					require.Empty(t, keys(t, r.Store(), "packs/"))
				} else {
					requireSound(t, r)
				}
			})
		}
		t.Run(name, func(t *testing.T) {
			each(t, func(ctx context.Context, r *repo.Repo, s backup.Source, o *backup.Options) error {
				_, err := backup.Take(ctx, r, s, o)
				return err
			})
		})
		t.Run(name+", of several", func(t *testing.T) {
			each(t, func(ctx context.Context, r *repo.Repo, s backup.Source, o *backup.Options) error {
				_, err := backup.TakeAll(ctx, []*repo.Repo{r}, s, &backup.AllOptions{Options: *o})
				return err
			})
		})
	}
}

// requirePromoted requires that a promotion was found out.
func requirePromoted(t *testing.T, err error, want backup.PromotedError) {
	t.Helper()
	var promoted *backup.PromotedError
	require.ErrorAs(t, err, &promoted)
	require.Equal(t, want, *promoted)
}

// archive archives a segment of the fake's, as its primary would.
func archive(t *testing.T, r *repo.Repo, number uint64) {
	t.Helper()
	s := standbySegment(number)
	require.NoError(t, pushContent(t, r, s, waltest.Segment(s, standbyID, 18)))
}

// archiveOther archives another content.
func archiveOther(t *testing.T, r *repo.Repo, number uint64) {
	t.Helper()
	s := standbySegment(number)
	b := waltest.Segment(s, standbyID, 18)
	b[len(b)-1] ^= 1
	require.NoError(t, pushContent(t, r, s, b))
}

func pushContent(t *testing.T, r *repo.Repo, s wal.Segment, content []byte) error {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	n, nerr := wal.ParseName(s.Name())
	return errors.Join(err, nerr, a.PushContent(t.Context(), n, bytes.NewReader(content), int64(len(content))))
}
