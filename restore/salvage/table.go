package salvage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table names a table or a materialized view of a database.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// String is the name as SQL has it.
func (t Table) String() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// ParseTable parses SCHEMA.TABLE. Names are as they are: case matters, also without quotes. Between double quotes, of which
// one within is written twice, a name may have dots.
func ParseTable(s string) (Table, error) {
	fail := func() (Table, error) { return Table{}, fmt.Errorf("salvage: %q is no SCHEMA.TABLE", s) }
	schema, rest, ok := cutName(s)
	if !ok || !strings.HasPrefix(rest, ".") {
		return fail()
	}
	name, rest, ok := cutName(rest[1:])
	if !ok || rest != "" {
		return fail()
	}
	return Table{Schema: schema, Name: name}, nil
}

// cutName cuts a name, which is not empty, off what comes after it.
func cutName(s string) (name, rest string, ok bool) {
	quoted, found := strings.CutPrefix(s, `"`)
	if !found {
		end := strings.IndexAny(s, `."`)
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0
	}
	for {
		part, after, closed := strings.Cut(quoted, `"`)
		if !closed {
			return "", "", false
		}
		name += part
		if quoted, found = strings.CutPrefix(after, `"`); !found {
			return name, after, name != ""
		}
		name += `"`
	}
}

// TableError means that there is nothing to take out under a name at the target.
type TableError struct {
	Database string
	Table    Table
	Reason   string
	Near     []Table // what may be meant: the nearest names at the target; of a partitioned table, its partitions
}

func (e *TableError) Error() string {
	text := fmt.Sprintf("%s of database %s: %s", e.Table, e.Database, e.Reason)
	if len(e.Near) > 0 {
		names := make([]string, len(e.Near))
		for i, t := range e.Near {
			names[i] = t.String()
		}
		text += ": " + strings.Join(names, ", ")
	}
	return text
}

// maxNear is how many names are told.
const maxNear = 5

// near returns the names that are most like a table's, those first that are nearest.
func near(t Table, all []Table) []Table {
	type candidate struct {
		Table
		distance int
	}
	var found []candidate
	for _, other := range all {
		c := candidate{Table: other, distance: distance(strings.ToLower(t.Name), strings.ToLower(other.Name))}
		if c.distance <= 1+len(t.Name)/4 {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(distance(t.Schema, a.Schema), distance(t.Schema, b.Schema)),
			cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	var names []Table
	for _, c := range found[:min(len(found), maxNear)] {
		names = append(names, c.Table)
	}
	return names
}

// distance is how many bytes have to be put in, taken out or changed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
