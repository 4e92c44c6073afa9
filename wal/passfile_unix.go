//go:build unix && !aix

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// sendLine sends a line with an open file beside it.
func sendLine(conn *net.UnixConn, line []byte, f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	var sendErr error
	err = c.Control(func(fd uintptr) { n, _, sendErr = conn.WriteMsgUnix(line, syscall.UnixRights(int(fd)), nil) })
	if err := errors.Join(err, sendErr); err != nil {
		return err
	}
	if n < len(line) {
		_, err = conn.Write(line[n:])
	}
	return err
}

// receiveLine receives what sendLine sends: a line, without its end, and just one open file. The caller closes it.
func receiveLine(conn *net.UnixConn) (line []byte, f *os.File, err error) {
	defer func() {
		if err != nil && f != nil {
			err = errors.Join(err, f.Close())
			f = nil
		}
	}()
	buf, oob := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4))
	for {
		n, k, flags, _, err := conn.ReadMsgUnix(buf, oob)
		if k > 0 {
			if f, err = receiveFile(oob[:k], f, err); err != nil {
				return nil, f, err
			}
		}
		switch {
		case err != nil:
			return nil, f, err
		case n == 0:
			return nil, f, io.ErrUnexpectedEOF
		case flags&syscall.MSG_CTRUNC != 0:
			return nil, f, errors.New("wal: a request with more than one open file")
		}
		line = append(line, buf[:n]...)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			switch {
			case i+1 != len(line):
				return nil, f, errors.New("wal: a request of several lines")
			case f == nil:
				return nil, nil, errors.New("wal: a request without an open file")
			}
			return line[:i], f, nil
		}
		if len(line) > maxLine {
			return nil, f, fmt.Errorf("wal: a request of more than %d bytes", maxLine)
		}
	}
}

// receiveFile takes the open file out of a control message, closing what is more than one.
func receiveFile(oob []byte, have *os.File, err error) (*os.File, error) {
	messages, parseErr := syscall.ParseSocketControlMessage(oob)
	err = errors.Join(err, parseErr)
	for i := range messages {
		fds, rightsErr := syscall.ParseUnixRights(&messages[i])
		err = errors.Join(err, rightsErr)
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "of the request") //nolint:gosec // a descriptor of this process
			if have == nil {
				have = f
				continue
			}
			err = errors.Join(err, errors.New("wal: a request with more than one open file"), f.Close())
		}
	}
	return have, err
}
