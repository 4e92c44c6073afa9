package restore

import (
	"os"

	"github.com/pgcairn/pgcairn/backup"
)

// Apart orders the numbers below n for a number of jobs.
func Apart(n, jobs int) []int { return apart(n, jobs) }

// LeaveOut takes the content of databases out of a manifest.
func LeaveOut(m *backup.Manifest, databases []backup.Database) {
	(&selection{databases: databases}).leaveOut(m)
}

// TakeControl takes pg_control away from a data directory that was admitted.
func TakeControl(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return (&destination{path: dir, root: root}).takeControl()
}
