package pgwire

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxSlotName is NAMEDATALEN-1.
const maxSlotName = 63

// CheckSlotName checks the name of a replication slot by the rules of ReplicationSlotValidateName (slot.c).
func CheckSlotName(name string) error {
	if name == "" || len(name) > maxSlotName {
		return fmt.Errorf("slot name %q: want 1 to %d characters", name, maxSlotName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("slot name %q: only lower-case letters, digits and underscores are allowed", name)
		}
	}
	return nil
}

// CreateSlot makes a physical replication slot that holds the server's WAL from now on. It returns false when there is
// one of that name.
func CreateSlot(ctx context.Context, c *pgconn.PgConn, name string) (created bool, err error) {
	if err := CheckSlotName(name); err != nil {
		return false, err
	}
	_, err = c.Exec(ctx, `CREATE_REPLICATION_SLOT "`+name+`" PHYSICAL RESERVE_WAL`).ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42710" { // duplicate_object
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create replication slot %q: %w", name, err)
	}
	return true, nil
}

// HoldWAL makes a slot, under a name that nothing else has, that holds the server's WAL from its latest checkpoint on. It
// lasts until the connection ends, or the first error of the server on it (ReplicationSlotCleanup).
func HoldWAL(ctx context.Context, c *pgconn.PgConn, name string) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	_, err := c.Exec(ctx, `CREATE_REPLICATION_SLOT "`+name+`" TEMPORARY PHYSICAL RESERVE_WAL`).ReadAll()
	if err != nil {
		return fmt.Errorf("create replication slot %q: %w", name, err)
	}
	return nil
}

// ReadSlot tells from where on a physical slot holds WAL, 0 when from nowhere yet. Before PostgreSQL 15 a walsender has
// no answer, which is errors.ErrUnsupported.
func ReadSlot(ctx context.Context, c *pgconn.PgConn, name string) (restart uint64, exists bool, err error) {
	if err := CheckSlotName(name); err != nil {
		return 0, false, err
	}
	if major(c.ParameterStatus("server_version")) < 15 {
		return 0, false, errors.ErrUnsupported
	}
	results, err := c.Exec(ctx, `READ_REPLICATION_SLOT "`+name+`"`).ReadAll()
	if err != nil {
		return 0, false, fmt.Errorf("read replication slot %q: %w", name, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3 {
		return 0, false, fmt.Errorf("read replication slot %q: the server did not send one row of three columns", name)
	}
	row := results[0].Rows[0]
	if row[0] == nil || row[1] == nil {
		return 0, row[0] != nil, nil
	}
	restart, err = parseLSN(row[1])
	return restart, err == nil, err
}

// major returns the major version of a server_version, such as 18.4 or 19devel; 0 for what it cannot read.
func major(version string) int {
	end := 0
	for end < len(version) && version[end] >= '0' && version[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(version[:end])
	if err != nil {
		return 0
	}
	return n
}
