package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/pgcairn/pgcairn/internal/durable"
)

var errStopping = errors.New("wal: the server is stopping")

// converse serves one connection: ctx ends when no more requests are taken, work when none is worked on.
func (s *server) converse(ctx, work context.Context, conn *net.UnixConn) {
	defer conn.Close()
	line, f, err := s.hear(ctx, conn)
	if err != nil {
		s.archive.log.DebugContext(ctx, "a connection without a request", "error", err)
		s.say(conn, answerOf("", answer{}, err))
		return
	}
	defer f.Close()
	r, n, err := parseRequest(line)
	if err != nil {
		s.say(conn, answerOf(r.Do, answer{}, notMissing(err)))
		return
	}
	work, cancel := context.WithCancel(work)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1)) // the client has no more to say, so this is its end
		cancel()
	}()
	done, err := s.do(work, r, n, f)
	if err != nil && ctx.Err() != nil && work.Err() != nil {
		err = errStopping
	}
	s.say(conn, answerOf(r.Do, done, err))
	_ = conn.Close()
	<-gone
}

// hear receives a request.
func (s *server) hear(ctx context.Context, conn *net.UnixConn) (line []byte, f *os.File, err error) {
	late := time.AfterFunc(requestTime, func() { _ = conn.SetReadDeadline(past) })
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(past) })
	line, f, err = receiveLine(conn)
	// Where one of the two has begun already, the connection is of no use any more.
	if inTime, unstopped := late.Stop(), stop(); err == nil && (!inTime || !unstopped) {
		err = errStopping
	}
	if err != nil && f != nil {
		err = errors.Join(err, f.Close())
		f = nil
	}
	return line, f, err
}

// say answers. A client that does not listen is none of the server's business.
func (s *server) say(conn *net.UnixConn, a answer) {
	defer time.AfterFunc(requestTime, func() { _ = conn.SetWriteDeadline(past) }).Stop()
	_, _ = conn.Write(encodeAnswer(a))
}

// do does what was asked for.
func (s *server) do(ctx context.Context, r request, n Name, f *os.File) (done answer, err error) {
	if r.Do == "push" {
		return answer{}, s.push(ctx, n, f, r.System)
	}
	told := r.System
	if told == 0 {
		told = systemIn(s.o.PGData)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
		return answer{}, fmt.Errorf("wal: fetch %s: an empty file to fill is wanted", n)
	}
	if s.o.Prefetch != nil {
		to := intoFile(f)
		if r.Take {
			to.take = func(f *aheadFile) error {
				done.Path, done.Size = f.path, int64(f.segment.Size)
				durable.StartWriteback(f.f, 0, done.Size)
				return nil
			}
		}
		err = s.o.Prefetch.fetch(ctx, n, to, told)
	} else {
		var sys System
		if sys, err = s.archive.systemFor(ctx, n, told); err == nil {
			err = s.archive.read(ctx, sys, n, io.NewOffsetWriter(f, 0))
		}
	}
	if err != nil || done.Path != "" {
		return done, err
	}
	if info, err = f.Stat(); err != nil {
		return answer{}, fmt.Errorf("wal: fetch %s: %w", n, notMissing(err))
	}
	done.Size = info.Size()
	return done, nil
}

func (s *server) push(ctx context.Context, n Name, f *os.File, told uint64) error {
	file, err := opened(n, f, s.o.PGData)
	if err != nil {
		return err
	}
	file.system = told
	pgdata := ""
	if s.backlog.TryLock() {
		defer s.backlog.Unlock()
		pgdata = s.o.PGData
	}
	_, err = s.archive.pushAsked(ctx, file, pgdata, s.o.Ready)
	return err
}
