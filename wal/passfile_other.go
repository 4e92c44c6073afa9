//go:build !unix || aix

package wal

import (
	"errors"
	"net"
	"os"
)

func sendLine(*net.UnixConn, []byte, *os.File) error { return errors.ErrUnsupported }

func receiveLine(*net.UnixConn) ([]byte, *os.File, error) { return nil, nil, errors.ErrUnsupported }
