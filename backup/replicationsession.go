package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// replicationSession is a backup that the server sends, file by file, in an order of its own.
type replicationSession struct {
	source   *replication
	options  BeginOptions
	conn     *pgx.Conn
	backup   *pgwire.Backup // nil before Send
	settings pgwire.Settings
	start    Start
	wal      sentWAL

	difference    bool    // to a base is what is sent
	ahead         []Entry // to be returned before those that the server sends
	label         string
	tablespaceMap string
	control       []byte // once it has come, which is after all files
	complete      bool   // all has been read

	unwatch func() bool // lets the context of Next end without consequences; nil before the first
}

// Start tells where the server is, and after Send where the backup begins. Its Time is that before the server's
// checkpoint.
func (s *replicationSession) Start() Start { return s.start }

// Next returns the next directory or file that belongs in the backup, by its path below the data directory, or io.EOF
// once the server has sent all, and the position where the backup ends. The size of a file is that of its content. After
// any other error there is only Close. When ctx ends before, so does the connection, also while Read waits.
func (s *replicationSession) Next(ctx context.Context) (Sent, error) {
	if s.unwatch == nil {
		s.unwatch = context.AfterFunc(ctx, func() { _ = s.conn.PgConn().Conn().Close() })
	}
	if len(s.ahead) > 0 {
		e := s.ahead[0]
		s.ahead = s.ahead[1:]
		return Sent{Entry: e}, nil
	}
	for {
		m, err := s.backup.Next()
		if errors.Is(err, io.EOF) {
			s.complete = s.unwatch()
			if !s.complete {
				return Sent{}, fmt.Errorf("backup: %w", ctx.Err())
			}
			return Sent{}, io.EOF
		}
		if err != nil {
			return Sent{}, fmt.Errorf("backup: %w", s.promoted(ctx, judgeSent(err)))
		}
		e, belongs, err := s.take(m)
		if err != nil {
			return Sent{}, fmt.Errorf("backup: %w", judgeSent(err))
		}
		if belongs {
			return e, nil
		}
	}
}

// promoted makes an error of the end of a backup one that says so when the server is a standby no more.
func (s *replicationSession) promoted(ctx context.Context, err error) error {
	refused := (*pgconn.PgError)(nil)
	if !s.start.Standby || !errors.As(err, &refused) || refused.Code != "55000" { // object_not_in_prerequisite_state
		return err
	}
	if at, rerr := s.Replayed(ctx); rerr != nil || !at.Promoted {
		return err
	}
	return &PromotedError{Timeline: s.start.Timeline}
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

// manifestName is that of the server's manifest, which is yielded as a file. Its size is not known.
const manifestName = "backup_manifest"

// take makes an entry of what the server sends, or keeps what belongs elsewhere.
func (s *replicationSession) take(m *pgwire.Member) (e Sent, belongs bool, err error) {
	p := m.Name
	if oid := s.backup.Tablespaces[m.Tablespace].OID; oid != 0 {
		p = tablespacePath(oid) + "/" + m.Name
	}
	if s.control != nil && m.Type != pgwire.Manifest {
		return Sent{}, false, fmt.Errorf("the server sends %s after pg_control", p)
	}
	var content []byte
	switch {
	case m.Type == pgwire.Manifest:
		return Sent{Entry: Entry{Path: manifestName, Size: m.Size}}, !s.difference, nil
	case m.Type == pgwire.Symlink:
		// To a tablespace, which is known from the server's list or, when it is not there, has been made since the backup
		// began, as recovery will do again.
	case m.Type == pgwire.Directory:
		return Sent{Entry: Entry{Path: p, Dir: true}}, !insideExcluded(p) && !excluded(p), nil
	case p == "backup_label":
		content, err = s.small(m, maxLabelFile)
		s.label = string(content)
	case p == "tablespace_map":
		content, err = s.small(m, maxMapFile)
		s.tablespaceMap = string(content)
	case p == pgfile.ControlPath:
		s.control, err = s.small(m, maxControlFile)
	default:
		if insideExcluded(p) || excluded(p) {
			return Sent{}, false, nil
		}
		if relation, ok := pgfile.IncrementalOf(p); ok && s.difference {
			e, err := s.part(relation, m)
			return e, true, err
		}
		return Sent{Entry: Entry{Path: p, Size: m.Size}}, true, nil
	}
	return Sent{}, false, err
}

// part makes an entry of what stands for a relation's file in a difference.
func (s *replicationSession) part(relation string, m *pgwire.Member) (Sent, error) {
	inc, err := pgfile.ReadIncremental(s.backup, s.start.PageSize, s.start.RelSegPages)
	if err != nil {
		return Sent{}, fmt.Errorf("%s: %w", m.Name, err)
	}
	if want := inc.Size(s.start.PageSize); m.Size != want {
		return Sent{}, fmt.Errorf("the server sends %d bytes as %s, which says that they are %d", m.Size, m.Name, want)
	}
	page := int64(s.start.PageSize)
	e := Sent{Entry: Entry{Path: relation, Size: int64(inc.Pages()) * page}, Part: true, Same: int64(inc.Length) * page}
	for _, b := range inc.Blocks {
		off := int64(b) * page
		if n := len(e.Ranges); n > 0 && e.Ranges[n-1].Offset+int64(e.Ranges[n-1].Length) == off {
			e.Ranges[n-1].Length += int(page)
		} else {
			e.Ranges = append(e.Ranges, Range{Offset: off, Length: int(page)})
		}
	}
	return e, nil
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
	stop := Stop{LSN: wal.LSN(s.backup.End.LSN), Label: wholeLabel(s.label), TablespaceMap: s.tablespaceMap, Control: s.control}
	var err error
	if stop.Time, err = pgwire.Clock(ctx, s.conn.PgConn()); err != nil {
		return Stop{}, fmt.Errorf("backup: %w", err)
	}
	return stop, nil
}

// wholeLabel is the label without what makes a server refuse it as that of a difference. The manifest is of all files.
func wholeLabel(label string) string {
	var b strings.Builder
	for line := range strings.Lines(label) {
		if !strings.HasPrefix(line, "INCREMENTAL FROM ") {
			b.WriteString(line)
		}
	}
	return b.String()
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
	// Of a standby's backup, recovery learns from pg_control where it ends (InitWalRecovery of PostgreSQL's xlogrecovery.c).
	if (label.From == "standby") != s.start.Standby {
		return fmt.Errorf("the server's label says that the backup is from %q", label.From)
	}
	if s.start.Standby && (control.State != pgfile.InArchiveRecovery || control.MinTimeline != start.Timeline || control.MinRecovery > end.LSN) {
		return errors.New("the server's label and pg_control are not those of one standby")
	}
	return nil
}

// errUnread means that a session was to be stopped before all of it was read.
var errUnread = errors.New("backup: the server's files have not been read to their end")

func tablespacePath(oid uint32) string { return "pg_tblspc/" + strconv.FormatUint(uint64(oid), 10) }
