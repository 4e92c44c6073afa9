//go:build !linux

package pagecache

import "os"

// File is a file that is read as it is.
type File struct{ f *os.File }

// Open opens a file for reading.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &File{f: f}, nil
}

// Expect is a hint that is not taken here.
func (f *File) Expect(int64, int64) {}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }
