package backup

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// sqlSession reads files by some connections while another holds the backup.
type sqlSession struct {
	holder  *holder
	readers *readers
	bounds  listBounds
	control pgfile.Control
	start   Start
	inPlace map[string]bool // tablespaces, by OID, that are directories in pg_tblspc

	connectTo func(ctx context.Context, database string) (*pgx.Conn, error) // nil: only to the one database
}

// Catalog implements [Cataloger].
func (s *sqlSession) Catalog(ctx context.Context) (*Catalog, error) {
	return s.holder.catalog(ctx, s.connectTo)
}

// Summaries implements [Summarizer].
func (s *sqlSession) Summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	return s.holder.summaries(ctx, t, from, to)
}

// Replayed implements [Replayer].
func (s *sqlSession) Replayed(ctx context.Context) (Replay, error) { return s.holder.replayed(ctx) }

func (s *sqlSession) Start() Start { return s.start }

// connections implements connected: how many files can be read beside each other.
func (s *sqlSession) connections() int { return cap(s.readers.slots) }

// readControl reads pg_control by the connection that holds the backup.
func (s *sqlSession) readControl(ctx context.Context) (pgfile.Control, []byte, error) {
	control, content, err := pgfile.ReadControlBy(func() (b []byte, err error) {
		const query = `select pg_read_binary_file('` + pgfile.ControlPath + `', 0, 65536, false)`
		err = s.holder.again(ctx, func() error { return s.holder.scan(ctx, query, &b) })
		return b, err
	})
	if err != nil {
		return control, nil, fmt.Errorf("backup: read pg_control: %w", s.holder.judge(ctx, err))
	}
	return control, content, nil
}

// inPlaceTablespaces tells which tablespaces are directories in pg_tblspc, to which SQL cannot tell links. Of those that
// come later recovery takes care.
func (s *sqlSession) inPlaceTablespaces(ctx context.Context) (map[string]bool, error) {
	rows, err := s.holder.conn.Query(ctx, `select oid from pg_tablespace where pg_tablespace_location(oid) like 'pg_tblspc/%'`)
	if err != nil {
		return nil, fmt.Errorf("backup: list tablespaces: %w", err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("backup: list tablespaces: %w", err)
	}
	inPlace := map[string]bool{}
	for _, oid := range oids {
		inPlace[strconv.FormatUint(uint64(oid), 10)] = true
	}
	return inPlace, nil
}

func (s *sqlSession) Stop(ctx context.Context) (Stop, error) {
	// Last of all files, since it tells how far the others may have come.
	control, content, err := s.readControl(ctx)
	if err != nil {
		return Stop{}, err
	}
	if control.SystemID != s.control.SystemID || control.ChecksumVersion != s.control.ChecksumVersion {
		return Stop{}, errors.New("backup: another cluster has taken the server's place during the backup")
	}
	return s.holder.end(ctx, control, content)
}

func (s *sqlSession) Close() error {
	return errors.Join(s.readers.close(), s.holder.close())
}
