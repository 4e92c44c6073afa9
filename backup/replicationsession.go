package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// replicationSession is a backup that the server sends, file by file, in an order of its own. Next goes from one to the
// next, and Read reads the content of the file that Next has returned; then Stop tells the rest. One goroutine at a time
// may use it.
type replicationSession struct {
	conn     *pgx.Conn
	backup   *pgwire.Backup
	manifest io.Writer // nil when nobody wants it
	settings pgwire.Settings
	start    Start

	ahead         []Entry // to be returned before those that the server sends
	label         string
	tablespaceMap string
	control       []byte // once it has come, which is after all files
	complete      bool   // all has been read
}

// Start tells what is known since the backup was begun. Names of tablespaces are not. Time is that before the server's
// checkpoint.
func (s *replicationSession) Start() Start { return s.start }

// Next returns the next directory or file that belongs in the backup, by its path below the data directory, or io.EOF
// once the server has sent all, and the position where the backup ends. The size of a file is that of its content. After
// any other error there is only Close.
func (s *replicationSession) Next() (Entry, error) {
	if len(s.ahead) > 0 {
		e := s.ahead[0]
		s.ahead = s.ahead[1:]
		return e, nil
	}
	for {
		m, err := s.backup.Next()
		if errors.Is(err, io.EOF) {
			s.complete = true
			return Entry{}, io.EOF
		}
		if err != nil {
			return Entry{}, fmt.Errorf("backup: %w", judgeSent(err))
		}
		e, belongs, err := s.take(m)
		if err != nil {
			return Entry{}, fmt.Errorf("backup: %w", judgeSent(err))
		}
		if belongs {
			return e, nil
		}
	}
}

// Read reads the content of the file that Next has returned last, up to io.EOF.
func (s *replicationSession) Read(p []byte) (int, error) {
	n, err := s.backup.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = judgeSent(err)
	}
	return n, err
}

// judgeSent makes an error of a backup that a server sends one that says so when the connection is lost.
func judgeSent(err error) error {
	var (
		network *net.OpError
		refused *pgconn.PgError
	)
	down := errors.As(err, &refused) && strings.HasPrefix(refused.Code, "57P") // shutdowns, and the administrator's command
	if down || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		return &SessionLostError{Err: err}
	}
	return err
}

// Bounds of what is kept in memory, in bytes.
const (
	maxLabelFile   = 64 << 10
	maxMapFile     = 16 << 20
	maxControlFile = 64 << 10
)

// take makes an entry of what the server sends, or keeps what belongs elsewhere.
func (s *replicationSession) take(m *pgwire.Member) (e Entry, belongs bool, err error) {
	p := m.Name
	if oid := s.backup.Tablespaces[m.Tablespace].OID; oid != 0 {
		p = tablespacePath(oid) + "/" + m.Name
	}
	if s.control != nil && m.Type != pgwire.Manifest {
		return Entry{}, false, fmt.Errorf("the server sends %s after pg_control", p)
	}
	var content []byte
	switch {
	case m.Type == pgwire.Manifest:
		if _, err := io.Copy(s.manifest, s.backup); err != nil {
			return Entry{}, false, fmt.Errorf("keep the server's manifest: %w", err)
		}
	case m.Type == pgwire.Symlink:
		// To a tablespace, which is known from the server's list or, when it is not there, has been made since the backup
		// began, as recovery will do again.
	case m.Type == pgwire.Directory:
		return Entry{Path: p, Dir: true}, !insideExcluded(p) && !excluded(p), nil
	case p == "backup_label":
		content, err = s.small(m, maxLabelFile)
		s.label = string(content)
	case p == "tablespace_map":
		content, err = s.small(m, maxMapFile)
		s.tablespaceMap = string(content)
	case p == pgfile.ControlPath:
		s.control, err = s.small(m, maxControlFile)
	default:
		return Entry{Path: p, Size: m.Size}, !insideExcluded(p) && !excluded(p), nil
	}
	return Entry{}, false, err
}

// insideExcluded tells whether a path is inside of a directory whose content does not belong in a backup.
func insideExcluded(p string) bool {
	top, _, inside := strings.Cut(p, "/")
	return inside && pgfile.ContentExcluded(top)
}

// small reads a file of a bounded size.
func (s *replicationSession) small(m *pgwire.Member, bound int64) ([]byte, error) {
	if m.Size > bound {
		return nil, fmt.Errorf("the server sends a %s of %d bytes", m.Name, m.Size)
	}
	return io.ReadAll(s.backup)
}

// Stop returns what the server has sent besides files. It comes after Next has returned io.EOF.
func (s *replicationSession) Stop(ctx context.Context) (Stop, error) {
	if !s.complete {
		return Stop{}, errUnread
	}
	if err := s.check(); err != nil {
		return Stop{}, fmt.Errorf("backup: %w", err)
	}
	stop := Stop{LSN: wal.LSN(s.backup.End.LSN), Label: s.label, TablespaceMap: s.tablespaceMap, Control: s.control}
	var err error
	if stop.Time, err = pgwire.Clock(ctx, s.conn.PgConn()); err != nil {
		return Stop{}, fmt.Errorf("backup: %w", err)
	}
	return stop, nil
}

// check finds what does not fit together.
func (s *replicationSession) check() error {
	if s.label == "" || s.control == nil {
		return errors.New("the server sent no backup_label, or no pg_control")
	}
	label, err := pgfile.ParseLabel(s.label)
	if err != nil {
		return err
	}
	start, end := s.backup.Start, s.backup.End
	if label.StartLSN != s.start.LSN.String() || label.Timeline != start.Timeline {
		return fmt.Errorf("the server's label begins at %s on timeline %d, the backup at %s on %d",
			label.StartLSN, label.Timeline, s.start.LSN, start.Timeline)
	}
	if end.Timeline != start.Timeline {
		return fmt.Errorf("the backup began on timeline %d and ended on %d", start.Timeline, end.Timeline)
	}
	if end.LSN <= start.LSN {
		return fmt.Errorf("the backup ends at %s, where it begins or before", wal.LSN(end.LSN))
	}
	// The server does not read pg_control again when it finds it torn.
	control, err := pgfile.ParseControl(s.control)
	if err != nil {
		return fmt.Errorf("as the server sent it: %w", err)
	}
	is := pgwire.Settings{
		Version: s.settings.Version, PageSize: control.PageSize, RelSegPages: control.RelSegPages,
		WALSegmentSize: control.WALSegmentSize, Checksums: control.ChecksumVersion != 0,
	}
	if control.SystemID != s.start.SystemID || is != s.settings {
		return fmt.Errorf("pg_control is of cluster %d with %+v, the server's of cluster %d with %+v",
			control.SystemID, is, s.start.SystemID, s.settings)
	}
	return nil
}

// copySegment writes a whole segment of WAL to w, as the server streams it. It comes after Stop, which has the primary
// complete the last segment of the backup; a standby's is complete once the primary has done so, which copySegment waits
// for. A segment that the server does not have any more is an error matching fs.ErrNotExist.
func (s *replicationSession) copySegment(ctx context.Context, seg wal.Segment, w io.Writer) error {
	err := pgwire.CopyWAL(ctx, s.conn.PgConn(), uint32(seg.Timeline), uint64(seg.Start()), uint64(seg.End()), w)
	if errors.Is(err, pgwire.ErrRemoved) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return fmt.Errorf("backup: segment %s: %w", seg, err)
	}
	return nil
}

func tablespacePath(oid uint32) string { return "pg_tblspc/" + strconv.FormatUint(uint64(oid), 10) }
