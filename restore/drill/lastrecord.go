package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// lastRecord is where the last record of a plan's WAL begins. PostgreSQL takes the first record that is not valid for the
// end of the WAL, and says nothing of what comes after it; so the last one is looked for from behind. The WAL is in
// pg_wal, where it was staged, or else in the archive.
func lastRecord(ctx context.Context, r *repo.Repo, p *restore.Plan, data string) (last wal.LSN, err error) {
	archive, err := wal.NewArchive(r, &wal.Options{SystemID: p.Backup.SystemID})
	if err != nil {
		return 0, err
	}
	if len(p.WAL) == 0 {
		return 0, nil
	}
	way := p.WAL[len(p.WAL)-1]
	// One record may be longer than a segment, in which then none begins.
	for from := way.Last; ; from = from.Prev() {
		last, err = lastFrom(ctx, archive, from, way.Last, data)
		if err != nil || last != 0 || from.Number == way.First.Number {
			return last, err
		}
	}
}

// lastFrom is where the last record of segments that follow each other begins, or 0 when none does.
func lastFrom(ctx context.Context, a *wal.Archive, first, end wal.Segment, data string) (wal.LSN, error) {
	ctx, cancel := context.WithCancel(ctx)
	content, w := io.Pipe()
	var read sync.WaitGroup
	read.Go(func() { w.CloseWithError(copySegments(ctx, a, first, end, data, w)) })
	last, err := lastOf(content)
	cancel()
	_ = content.Close() // which ends who writes to it
	read.Wait()
	return last, err
}

// lastOf is where the last record of some WAL begins, or 0 when none does.
func lastOf(content io.Reader) (last wal.LSN, err error) {
	for record, err := range wal.Records(content, nil) {
		var invalid *wal.RecordError
		switch {
		case err == nil:
			last = record.LSN
		case errors.Is(err, wal.ErrEndOfWAL):
			return last, nil
		case errors.As(err, &invalid):
			return 0, elsewhere("the archive holds damaged WAL: %v", err)
		default:
			return 0, err
		}
	}
	return last, nil
}

// copySegments writes segments that follow each other to w.
func copySegments(ctx context.Context, a *wal.Archive, first, last wal.Segment, data string, w io.Writer) error {
	for s := first; s.Number <= last.Number; s = s.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(data, "pg_wal", s.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			if err := a.Read(ctx, s.Name(), w); err != nil {
				return fmt.Errorf("read %s: %w", s, err)
			}
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
