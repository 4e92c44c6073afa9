package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"
)

// maxResult bounds the result sets that come with a backup, in bytes.
const maxResult = 16 << 20

// readResult reads a result set.
func readResult(receive func() (pgproto3.BackendMessage, error)) (rows [][][]byte, err error) {
	described, size := false, 0
	for {
		message, err := receive()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			if described {
				return nil, fmt.Errorf("unexpected message %T", m)
			}
			described = true
		case *pgproto3.DataRow:
			row := make([][]byte, len(m.Values))
			size += 64 // for the row itself
			for i, v := range m.Values {
				row[i] = bytes.Clone(v)
				size += 24 + len(v)
			}
			if size > maxResult {
				return nil, fmt.Errorf("a result of more than %d bytes", maxResult)
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			if !described {
				return nil, errors.New("the server sends no result")
			}
			return rows, nil
		default:
			return nil, fmt.Errorf("unexpected message %T", m)
		}
	}
}

// readReady reads the end of the command.
func readReady(receive func() (pgproto3.BackendMessage, error)) error {
	complete := false
	for {
		message, err := receive()
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pgproto3.CommandComplete:
			complete = true
		case *pgproto3.ReadyForQuery:
			if !complete {
				return errors.New("the server did not complete the command")
			}
			return nil
		default:
			return fmt.Errorf("unexpected message %T", m)
		}
	}
}

// awaitReady skips all up to where the server waits for a command.
func awaitReady(front *pgproto3.Frontend) error {
	for {
		message, err := front.Receive()
		if err != nil {
			return err
		}
		if _, ok := message.(*pgproto3.ReadyForQuery); ok {
			return nil
		}
	}
}

// parsePosition parses the one row that tells where a backup begins or ends.
func parsePosition(rows [][][]byte) (p Position, err error) {
	if len(rows) != 1 || len(rows[0]) < 2 {
		return p, errors.New("the server did not send one row with a position and a timeline")
	}
	if p.LSN, err = parseLSN(rows[0][0]); err != nil {
		return p, err
	}
	p.Timeline, err = parseTimeline(rows[0][1])
	return p, err
}

// parseTablespaces parses the list of tablespaces: OID, location, size in KiB. The data directory, without the first two,
// is the last.
func parseTablespaces(rows [][][]byte) ([]Tablespace, error) {
	if len(rows) == 0 {
		return nil, errors.New("the server sent an empty list of tablespaces")
	}
	var list []Tablespace
	seen := map[uint32]bool{}
	for i, row := range rows {
		if len(row) < 3 {
			return nil, fmt.Errorf("the server sent a tablespace %q", row)
		}
		t := Tablespace{Size: -1, Location: string(row[1])}
		var err error
		if last := i == len(rows)-1; !last {
			var oid uint64
			oid, err = strconv.ParseUint(string(row[0]), 10, 32)
			t.OID = uint32(oid)
			if t.OID == 0 || t.Location == "" || seen[t.OID] {
				err = errors.New("no OID of its own")
			}
			seen[t.OID] = true
		} else if row[0] != nil || row[1] != nil {
			err = errors.New("no data directory")
		}
		if row[2] != nil && err == nil {
			var kib uint64
			kib, err = strconv.ParseUint(string(row[2]), 10, 50)
			t.Size = int64(kib) << 10
		}
		if err != nil {
			return nil, fmt.Errorf("the server sent a tablespace %q: %w", row, err)
		}
		list = append(list, t)
	}
	return list, nil
}
