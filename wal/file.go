package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// walFile is an open file that is to be archived.
type walFile struct {
	name    Name
	pgdata  string // directory that it would lie in the pg_wal of; it may be none
	system  uint64 // system identifier of the cluster, where whoever hands the file over has told; or 0
	content *io.SectionReader
	f       *os.File
}

// openFile opens a file of pg_wal.
func openFile(path string) (*walFile, error) {
	n, err := ParseName(filepath.Base(path))
	if err != nil {
		return nil, err
	}
	// Asked before it is opened, which for a named pipe would wait.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(n)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	w, err := opened(n, f, filepath.Dir(filepath.Dir(path)))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// opened is a file that someone has opened.
func opened(n Name, f *os.File, pgdata string) (*walFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(n)
	}
	return &walFile{name: n, pgdata: pgdata, content: io.NewSectionReader(f, 0, info.Size()), f: f}, nil
}

func notRegular(n Name) error {
	return &SegmentError{Name: n.String(), Err: errors.New("not a regular file")}
}

// systemID is the system identifier of the cluster that the file is of, as far as is known without reading it; or 0.
func (f *walFile) systemID() uint64 {
	if f.system != 0 {
		return f.system
	}
	return systemIn(f.pgdata)
}

// Close closes the file.
func (f *walFile) Close() error { return f.f.Close() }
