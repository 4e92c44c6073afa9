package health

import (
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// Status is the health of a repository. Ages are in seconds by the repository's clock, and never negative.
type Status struct {
	OK       bool      `json:"ok"` // no problems
	At       time.Time `json:"at"`
	Problems []Problem `json:"problems"`

	NewestBackup *Backup          `json:"newest_backup"` // that can be restored; nil when there is none
	Backups      int              `json:"backups"`       // of this cluster
	WAL          WAL              `json:"wal"`
	Windows      []restore.Window `json:"windows"` // see restore.Windows; their times are those of backups, since no WAL is read
	LastVerify   *Receipt         `json:"last_verify"`
	LastDrill    *Receipt         `json:"last_drill"`

	// StoredBytes is what is stored of the backups and the WAL of this cluster; what later backups need of those between
	// that were dropped is not in it.
	StoredBytes int64            `json:"stored_bytes"`
	Growth      Growth           `json:"growth"`
	Leases      []repo.LeaseInfo `json:"leases"`
	Space       *repo.Space      `json:"space,omitempty"` // of a repository in a directory
}

// Backup is a backup and its age, which counts from when it was complete.
type Backup struct {
	*backup.Summary

	AgeSeconds float64 `json:"age_seconds"`
}

// WAL is what can be told of the WAL.
type WAL struct {
	Timeline wal.Timeline `json:"timeline,omitempty"` // the highest of which any is held
	EndLSN   wal.LSN      `json:"end_lsn,omitempty"`  // up to where

	// LagSeconds is how long ago the last of it was archived here, by the store's clock: what a loss of the server now
	// might cost at most, where it was not copied from another repository, since that does not make it younger. A server
	// that writes nothing archives nothing, unless archive_timeout is set. Nil where there is none.
	LagSeconds *float64 `json:"lag_seconds"`

	Bytes int64       `json:"bytes"` // as stored, of all timelines
	Gaps  []wal.Range `json:"gaps"`  // that are missing between what is held
}

// Receipt is the last one of a kind, and its age, which counts from its end.
type Receipt struct {
	*backup.Receipt

	AgeSeconds float64 `json:"age_seconds"`
}

// Growth is what a repository has grown by in its last seven days, or since the first of its backups that are there.
type Growth struct {
	Seconds     float64 `json:"seconds"`      // of which it tells
	BackupBytes int64   `json:"backup_bytes"` // as stored
	WALBytes    int64   `json:"wal_bytes"`    // estimated: positions of backups, and how WAL is compressed here
}

// Kind is what kind of problem it is.
type Kind string

// The kinds of problems.
const (
	KindNoBackup  Kind = "no-backup"  // none can be restored
	KindBackupAge Kind = "backup-age" // the newest one is older than MaxBackupAge
	KindBackup    Kind = "backup"     // one cannot be read or restored, or is pinned and gone
	KindWALLag    Kind = "wal-lag"    // over MaxWALLag, or there is no WAL
	KindWALGap    Kind = "wal-gap"    // between the newest backup and the end of the WAL
	KindVerifyAge Kind = "verify-age" // the last verification is older than MaxVerifyAge or MaxReadAge, or there was none
	KindVerify    Kind = "verify"     // the last one found problems
	KindDrill     Kind = "drill"      // the last one failed
	KindDamage    Kind = "damage"     // what tells of the above is corrupt
)

// Problem is something that is wrong.
type Problem struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"` // a line for people
}
