package backuptest

import (
	"context"
	"iter"

	"github.com/pgcairn/pgcairn/backup"
)

// Meanwhile is a source, such as one of a real server, with something that happens while it is backed up. It has no names
// and no WAL summaries. A [Cluster] has its Hook for that.
type Meanwhile struct {
	backup.Source
	Listing func() // before files are listed; when the server sends them, once the backup has begun
	Reading func() // after that
}

// Begin implements backup.Source.
func (m Meanwhile) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	s, err := m.Source.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	if from, ok := s.(backup.Streamer); ok {
		return meanwhileStreamer{s, from, m}, nil
	}
	return meanwhileLister{s, s.(backup.Lister), m}, nil
}

func happen(what func()) {
	if what != nil {
		what()
	}
}

type meanwhileStreamer struct {
	backup.Session
	backup.Streamer
	m Meanwhile
}

func (s meanwhileStreamer) Send(ctx context.Context, base *backup.Manifest) (backup.Sending, error) {
	sending, err := s.Streamer.Send(ctx, base)
	happen(s.m.Listing)
	happen(s.m.Reading)
	return sending, err
}

type meanwhileLister struct {
	backup.Session
	backup.Lister
	m Meanwhile
}

func (s meanwhileLister) Files(ctx context.Context) iter.Seq2[backup.Entry, error] {
	return func(yield func(backup.Entry, error) bool) {
		happen(s.m.Listing)
		for e, err := range s.Lister.Files(ctx) {
			if !yield(e, err) {
				return
			}
		}
		happen(s.m.Reading)
	}
}
