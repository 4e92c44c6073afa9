package backup

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// SQLOptions are the options of [SQL]. A nil *SQLOptions, and the zero value of each field, is its default.
type SQLOptions struct {
	// Connect opens connections, for programs that bring their own credentials. All have to lead to the same server. It
	// may be called concurrently, and at any time: a connection that drops is opened anew. The default connects with the
	// connection string.
	Connect func(context.Context) (*pgx.Conn, error)

	// Connections is how many connections read files at most, besides the one that holds the backup. Each is opened when
	// it is needed. The default is 4.
	Connections int

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// SQL returns the cluster of a server that can be reached by SQL only: it needs neither access to the server's files nor
// a program on its host. conn is a connection string, keywords or URL; libpq's environment variables fill in what it
// lacks. The server may be a standby.
//
// The role needs to be a superuser, or to have EXECUTE on the backup functions and on those that list and read files, in
// the database connected to; a *[PrivilegeError] says which it lacks. With REPLICATION as well, WAL is held back while the
// backup runs.
//
// A connection that drops while it reads is opened anew. A backup whose own connection is lost fails with a
// *[SessionLostError], and one whose connections lead to several servers with a *[OtherServerError].
//
// Unlike [Directory] it cannot tell a symbolic link from what it leads to. So what links below the data directory lead to
// is in the backup, such as a configuration file that is kept elsewhere.
func SQL(conn string, o *SQLOptions) (Source, error) {
	if o == nil {
		o = &SQLOptions{}
	}
	s := &sqlSource{connections: o.Connections, pause: firstPause, check: holdCheck, bounds: defaultListBounds(), log: o.Logger}
	if s.connections <= 0 {
		s.connections = 4
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.connect, err = connector(conn, o.Connect); err != nil {
		return nil, err
	}
	if o.Connect == nil {
		s.connectTo = connectorTo(conn)
	}
	return s, nil
}

type sqlSource struct {
	connect     func(context.Context) (*pgx.Conn, error)
	connections int
	pause       time.Duration // before what has failed is tried again
	check       time.Duration // between two checks that the backup is still held
	bounds      listBounds
	log         *slog.Logger

	connectTo func(ctx context.Context, database string) (*pgx.Conn, error) // nil: only to the one database
}

func (q *sqlSource) Begin(ctx context.Context, o BeginOptions) (_ Session, err error) {
	conn, err := q.connect(ctx)
	if err != nil {
		return nil, &connectError{err: err}
	}
	h := &holder{server: server{conn: conn, log: q.log}, check: time.NewTicker(q.check)}
	s := &sqlSession{holder: h, connectTo: q.connectTo, bounds: q.bounds, readers: &readers{
		connect: q.connect, pause: q.pause, log: q.log, holder: h, slots: make(chan struct{}, q.connections),
	}}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if _, _, err = h.identity(ctx); err != nil {
		return nil, err
	}
	// Before the server makes a checkpoint in vain.
	if _, err = h.mayExecute(ctx, append(h.backupFunctions(), h.fileFunctions()...)...); err != nil {
		return nil, err
	}
	if s.control, _, err = s.readControl(ctx); err != nil {
		return nil, err
	}
	if s.start, err = h.begin(ctx, o); err != nil {
		return nil, err
	}
	if s.inPlace, err = s.inPlaceTablespaces(ctx); err != nil {
		return nil, err
	}
	s.start.SystemID = s.control.SystemID
	s.start.PageSize = s.control.PageSize
	s.start.RelSegPages = s.control.RelSegPages
	s.start.WALSegmentSize = s.control.WALSegmentSize
	s.start.Checksums = s.control.ChecksumVersion != 0
	return s, nil
}
