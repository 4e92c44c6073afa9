package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// maxSpoolMemory is the size in bytes up to which a segment is kept in memory while it is received.
const maxSpoolMemory = 16 << 20

// spool keeps a segment while it is received, from its start: in memory or, where segments are large, in a file without
// a name. It is written at its end by one goroutine, while others read what is before that.
type spool struct {
	segment Segment
	end     uint32 // bytes held
	memory  []byte
	file    *os.File
}

// newSpool returns an empty spool. dir is where a file is made, the default directory for temporary files when empty.
// reuse, unless nil, is one whose memory is not needed any more.
func newSpool(seg Segment, dir string, reuse *spool) (*spool, error) {
	s := &spool{segment: seg}
	if seg.Size <= maxSpoolMemory {
		if reuse != nil && len(reuse.memory) == int(seg.Size) {
			s.memory, reuse.memory = reuse.memory, nil
		} else {
			s.memory = make([]byte, seg.Size)
		}
		return s, nil
	}
	f, err := os.CreateTemp(dir, "pgcairn-receive-*")
	if err != nil {
		return nil, notMissing(fmt.Errorf("wal: keep a segment while it is received: %w", err))
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("wal: keep a segment while it is received: %w", err), f.Close())
	}
	s.file = f
	return s, nil
}

// append adds bytes, which must fit.
func (s *spool) append(b []byte) error {
	if s.file == nil {
		copy(s.memory[s.end:], b)
	} else if _, err := s.file.WriteAt(b, int64(s.end)); err != nil {
		return fmt.Errorf("wal: keep a segment while it is received: %w", err)
	}
	s.end += uint32(len(b))
	return nil
}

// ReadAt implements io.ReaderAt on what has been appended.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	n := copy(p, s.memory[min(off, int64(len(s.memory))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// room is how many bytes are missing.
func (s *spool) room() int { return int(s.segment.Size - s.end) }

// pos is the position after the last byte held.
func (s *spool) pos() LSN { return s.segment.Start() + LSN(s.end) }

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name: nobody will read it
	}
}
