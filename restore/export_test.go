package restore

import "github.com/pgcairn/pgcairn/backup"

// Apart orders the numbers below n for a number of jobs.
func Apart(n, jobs int) []int { return apart(n, jobs) }

// LeaveOut takes the content of databases out of a manifest.
func LeaveOut(m *backup.Manifest, databases []backup.Database) {
	(&selection{databases: databases}).leaveOut(m)
}
