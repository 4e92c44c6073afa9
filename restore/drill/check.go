package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Null stands for NULL in Check.Want and CheckResult.Values, as in COPY's text format.
const Null = `\N`

// Check is a question to the server, which runs as a copy of its own: a check may change it.
type Check struct {
	// Name is for the report. The default is the SQL.
	Name string `json:"name,omitempty"`

	// Database is where to ask. The default is the database postgres, or that of Options.Restore.Tables.
	Database string `json:"database,omitempty"`

	// SQL is one statement, executed as the superuser. Its time zone is UTC.
	SQL string `json:"sql,omitempty"`

	// Want are the rows that it has to yield, in order, each value as psql shows it, and [Null]. Empty and not nil, it has to
	// yield none. The default, nil, takes any rows for an answer, but not none from a query, and of a boolean in the first
	// column nothing but true: select count(*) > 1000 from orders.
	Want [][]string `json:"want,omitzero"`

	// Func asks by itself, instead of SQL, with a connection that is closed afterwards. It is called from Run's own
	// goroutine; when it panics, the drill is cleaned up all the same.
	Func func(ctx context.Context, conn *pgx.Conn) error `json:"-"`
}

// CheckResult is what became of a check.
type CheckResult struct {
	Name     string     `json:"name"`
	Database string     `json:"database,omitempty"`
	SQL      string     `json:"sql"`
	Rows     int64      `json:"rows"`             // that SQL has yielded; indexes and tables that amcheck has checked
	Values   [][]string `json:"values,omitempty"` // the first 20 rows, and 1000 bytes of a value
	OK       bool       `json:"ok"`
	Skipped  string     `json:"skipped,omitempty"`  // why there was nothing to check
	Problems []string   `json:"problems,omitempty"` // why it is not OK
}

const (
	maxValues   = 20   // rows that are kept of what SQL yields
	maxProblems = 100  // that are kept of a check
	maxText     = 1000 // bytes that are shown of a value
)

func (r *CheckResult) problem(format string, args ...any) {
	r.OK = false
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *Check) validate() error {
	if (c.SQL == "") == (c.Func == nil) {
		return errors.New("a check has either SQL or Func")
	}
	if c.Func != nil && c.Want != nil {
		return errors.New("a check has rows to want of SQL only")
	}
	return nil
}

func (c *Check) name() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.SQL != "":
		return c.SQL
	}
	return "function"
}

// run asks.
func (c *Check) run(ctx context.Context, s *server) CheckResult {
	r := CheckResult{Name: c.name(), Database: c.Database, SQL: c.SQL, OK: true}
	conn, err := s.connect(ctx, c.Database)
	if err != nil {
		r.problem("%v", err)
		return r
	}
	defer closeConn(conn)
	if c.Func != nil {
		if err := c.Func(ctx, conn); err != nil {
			r.problem("%v", err)
		}
		return r
	}
	c.query(ctx, conn, &r)
	return r
}

// oidBool is the type of booleans (pg_type.dat of PostgreSQL).
const oidBool = 16

// query executes the SQL. Values come as text.
func (c *Check) query(ctx context.Context, conn *pgx.Conn, r *CheckResult) {
	result := conn.PgConn().ExecParams(ctx, c.SQL, nil, nil, nil, nil)
	fields := result.FieldDescriptions()
	isQuery := len(fields) > 0
	truth := isQuery && c.Want == nil && fields[0].DataTypeOID == oidBool
	for result.NextRow() {
		row := textOf(result.Values())
		if len(r.Values) < maxValues {
			r.Values = append(r.Values, shown(row))
		}
		switch {
		case truth && row[0] != "t":
			r.problem("row %d is not true", r.Rows+1)
		case c.Want != nil && r.Rows < int64(len(c.Want)) && !slices.Equal(row, c.Want[r.Rows]):
			r.problem("row %d is (%s), not (%s)", r.Rows+1, strings.Join(shown(row), ", "), strings.Join(shown(c.Want[r.Rows]), ", "))
		}
		r.Rows++
	}
	_, err := result.Close()
	switch {
	case err != nil:
		r.problem("%v", err)
	case c.Want != nil && r.Rows != int64(len(c.Want)):
		r.problem("there are %d rows, not %d", r.Rows, len(c.Want))
	case c.Want == nil && isQuery && r.Rows == 0:
		r.problem("there are no rows")
	}
}

// shown is a row with long values cut off.
func shown(row []string) []string {
	out := slices.Clone(row)
	for i, v := range out {
		if len(v) > maxText {
			out[i] = strings.ToValidUTF8(v[:maxText], "") + "..."
		}
	}
	return out
}

func textOf(values [][]byte) []string {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = Null
		if v != nil {
			row[i] = strings.ToValidUTF8(string(v), "?")
		}
	}
	return row
}
