package waltest

import (
	"bytes"
	"fmt"

	"github.com/pgcairn/pgcairn/wal"
)

// History returns the content of a .history file with the given forks, oldest first, as writeTimeLineHistory of
// PostgreSQL's timeline.c writes it. A fork without a reason is one at the end of the WAL.
func History(forks ...wal.Fork) []byte {
	var b bytes.Buffer
	for i, f := range forks {
		if i > 0 {
			b.WriteByte('\n')
		}
		if f.Reason == "" {
			f.Reason = "no recovery target specified"
		}
		fmt.Fprintf(&b, "%d\t%s\t%s\n", f.Timeline, f.At, f.Reason)
	}
	return b.Bytes()
}
