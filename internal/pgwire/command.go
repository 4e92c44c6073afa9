package pgwire

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxMessage bounds a message of the server in bytes: WAL comes in messages of up to 128 KiB (MAX_SEND_SIZE of
// walsender.c), histories are the longest.
const maxMessage = 2 << 20

// System is what IDENTIFY_SYSTEM tells.
type System struct {
	ID       uint64
	Timeline uint32 // current
	Position uint64 // up to where the WAL is synced on the server
}

// Identify asks the server who it is. It also bounds the messages that are taken from the connection.
func Identify(ctx context.Context, c *pgconn.PgConn) (System, error) {
	c.Frontend().SetMaxBodyLen(maxMessage)
	row, err := oneRow(ctx, c, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return System{}, err
	}
	return parseSystem(row)
}

func parseSystem(row [][]byte) (s System, err error) {
	if s.ID, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: a system identifier %q", row[0])
	}
	if s.Timeline, err = parseTimeline(row[1]); err != nil {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	if s.Position, err = parseLSN(row[2]); err != nil {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	return s, nil
}

// TimelineHistory asks for the content of a timeline's history file.
func TimelineHistory(ctx context.Context, c *pgconn.PgConn, timeline uint32) ([]byte, error) {
	row, err := oneRow(ctx, c, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2)
	if err != nil {
		return nil, err
	}
	if want := fmt.Sprintf("%08X.history", timeline); string(row[0]) != want {
		return nil, fmt.Errorf("TIMELINE_HISTORY %d: the server sent %q", timeline, row[0])
	}
	return row[1], nil
}

// oneRow executes a command that yields one row, of which at least the first columns are not null.
func oneRow(ctx context.Context, c *pgconn.PgConn, command string, columns int) ([][]byte, error) {
	results, err := c.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s: the server did not send one row of %d columns", command, columns)
	}
	row := results[0].Rows[0]
	for _, v := range row[:columns] {
		if v == nil {
			return nil, fmt.Errorf("%s: the server sent null", command)
		}
	}
	return row, nil
}

func parseTimeline(b []byte) (uint32, error) {
	t, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || t == 0 {
		return 0, fmt.Errorf("a timeline %q", b)
	}
	return uint32(t), nil
}

func parseLSN(b []byte) (uint64, error) {
	high, low, ok := strings.Cut(string(b), "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || errors.Join(err1, err2) != nil {
		return 0, fmt.Errorf("a position %q", b)
	}
	return h<<32 | l, nil
}

func formatLSN(l uint64) string { return fmt.Sprintf("%X/%X", l>>32, uint32(l)) } //nolint:gosec // the lower half
