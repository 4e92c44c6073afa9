package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

var errStopping = errors.New("wal: the server is stopping")

// converse serves one connection: ctx ends when no more requests are taken, work when none is worked on.
func (s *server) converse(ctx, work context.Context, conn *net.UnixConn) {
	defer conn.Close()
	line, f, err := s.hear(ctx, conn)
	if err != nil {
		s.archive.log.DebugContext(ctx, "a connection without a request", "error", err)
		s.say(conn, answerOf("", 0, err))
		return
	}
	defer f.Close()
	r, n, err := parseRequest(line)
	if err != nil {
		s.say(conn, answerOf(r.Do, 0, notMissing(err)))
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
	size, err := s.do(work, r, n, f)
	if err != nil && ctx.Err() != nil && work.Err() != nil {
		err = errStopping
	}
	s.say(conn, answerOf(r.Do, size, err))
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
func (s *server) do(ctx context.Context, r request, n Name, f *os.File) (size int64, err error) {
	if r.Do == "push" {
		return 0, s.push(ctx, n, f, r.System)
	}
	told := r.System
	if told == 0 {
		told = systemIn(s.o.PGData)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
		return 0, fmt.Errorf("wal: fetch %s: an empty file to fill is wanted", n)
	}
	if s.o.Prefetch != nil {
		err = s.o.Prefetch.fetch(ctx, n, intoFile(f), told)
	} else {
		var sys System
		if sys, err = s.archive.systemFor(ctx, n, told); err == nil {
			err = s.archive.read(ctx, sys, n, io.NewOffsetWriter(f, 0))
		}
	}
	if err != nil {
		return 0, err
	}
	if info, err = f.Stat(); err != nil {
		return 0, fmt.Errorf("wal: fetch %s: %w", n, notMissing(err))
	}
	return info.Size(), nil
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
