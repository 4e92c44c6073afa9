package wal

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/internal/objerr"
)

// Client archives and fetches through a program that runs [Serve]. It opens no repository and needs no key, so a process
// for each segment costs next to nothing. Every call is a connection of its own; a Client may be used concurrently.
type Client struct {
	Socket string // path of the server's Unix socket

	// SystemID is the system identifier of the cluster whose files are fetched, as in [Options]. The default, 0, takes
	// that of the data directory they go to.
	SystemID uint64
}

// Push is [Archive.Push] by way of the server: nil means durable. *[ConflictError], *[ForeignError], *[SegmentError] and
// *[NameError] come through; whatever else the server answers is a *[ServerError]. When ctx ends, the server gives up
// as well.
func (c Client) Push(ctx context.Context, path string) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = c.ask(ctx, request{Do: "push", Name: f.name.String(), System: noteOf(f)}, f.f)
	return err
}

// Fetch is [Archive.Fetch] by way of the server: the file is written beside dst, by the server but with this process's
// rights, and renamed, or is one that the server has fetched ahead, where this process may rename that. Like
// [Prefetcher.Fetch] it does not sync dst. An error matches fs.ErrNotExist only when the archive itself has answered so,
// and never because there is no server, no socket or no directory. Others are as with [Client.Push], and
// *[repo.CorruptError].
func (c Client) Fetch(ctx context.Context, name, dst string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	there := systemAt(dst)
	if c.SystemID != 0 && there != 0 && there != c.SystemID {
		return &ForeignError{Name: whereTo(n), Got: there, Want: c.SystemID}
	}
	var refused error
	err = durable.FillUnsynced(dst, 0o600, func(f *os.File) error {
		r := request{Do: "fetch", Name: name, System: cmp.Or(c.SystemID, there), Take: true}
		done, err := c.ask(ctx, r, f)
		if err == nil && done.Path != "" {
			if takeAhead(n, done, dst) {
				return errPlaced
			}
			// Another file system, another user's directory, or somebody was faster.
			r.Take = false
			done, err = c.ask(ctx, r, f)
		}
		if err == nil && done.Path != "" {
			err = errors.New("wal: the server offers a file that was not asked for")
		}
		if refused = err; err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && info.Size() != done.Size {
			err = fmt.Errorf("%d bytes have come, want %d", info.Size(), done.Size)
		}
		durable.StartWriteback(f, 0, done.Size)
		return err
	})
	switch {
	case err == nil, errors.Is(err, errPlaced):
		return nil
	case refused != nil:
		return refused
	}
	return notMissing(fmt.Errorf("wal: fetch %s: %w", name, err))
}

// errPlaced means that a file is in place already.
var errPlaced = errors.New("in place")

// takeAhead renames what a server has fetched ahead, if it is what it should be: whatever the server says, nothing else is
// moved.
func takeAhead(n Name, offered answer, dst string) bool {
	base := filepath.Base(offered.Path)
	if !filepath.IsAbs(offered.Path) || !strings.HasPrefix(base, n.String()+"-") || !aheadName(base) {
		return false
	}
	info, err := os.Lstat(offered.Path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != offered.Size {
		return false
	}
	return os.Rename(offered.Path, dst) == nil
}

// ask makes a request, with an open file, and returns what was answered.
func (c Client) ask(ctx context.Context, r request, f *os.File) (done answer, err error) {
	// That there is no socket must not look like the archive's answer.
	fail := func(err error) (answer, error) {
		return answer{}, objerr.Failed(ctx, "wal: "+r.Do, r.Name+" by way of "+c.Socket, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return fail(errors.ErrUnsupported)
	}
	r.Version = protocolVersion
	line, err := json.Marshal(r)
	if err != nil {
		return fail(err)
	}
	if err := sendLine(unix, append(line, '\n'), f); err != nil {
		return fail(err)
	}
	line, err = bufio.NewReaderSize(conn, maxLine).ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		err = errors.New("the server went away before it had answered")
	}
	if err != nil {
		return fail(err)
	}
	return parseAnswer(r.Do, line)
}
