package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// CheckOptions are the options of [Check]. A nil *CheckOptions, and the zero value of each field, is its default.
type CheckOptions struct {
	// Connect opens the connection to the server, for programs that bring their own credentials. The default connects
	// with the connection string.
	Connect func(context.Context) (*pgx.Conn, error)

	// Wait is how long a segment may take to arrive in the archive. The default is a minute.
	Wait time.Duration

	// SQL makes sure that the role has the privileges for backups with [SQL], which reads files as well.
	SQL bool

	// Replication makes sure that the role may replicate, which is all that backups with [Replication] take.
	Replication bool

	// MustRead makes it a failure when this host cannot decrypt what it has written. By default that is only told, since
	// a database host needs to hold recipients only.
	MustRead bool

	// Progress, when set, is given each step when it has ended, from Check's own goroutine.
	Progress func(CheckStep)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// CheckReport is what [Check] has found.
type CheckReport struct {
	OK    bool        `json:"ok"` // every step is
	Steps []CheckStep `json:"steps"`
}

// CheckStep is a stretch of the road from a server to a repository.
type CheckStep struct {
	Name    string // "connect", "role", "settings", "store", "objects", "cluster" or "archive"
	OK      bool
	Skipped bool          // since it needs a step that has failed
	Detail  string        // what was found, or why it failed, in a line
	Err     error         // why it failed; of a skipped step nil
	Took    time.Duration // from its begin to its end
}

// MarshalJSON implements json.Marshaler.
func (s CheckStep) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name    string  `json:"name"`
		OK      bool    `json:"ok"`
		Skipped bool    `json:"skipped"`
		Detail  string  `json:"detail"`
		Took    float64 `json:"duration_seconds"`
	}{s.Name, s.OK, s.Skipped, s.Detail, s.Took.Seconds()})
}

// SettingError means that the server is not set up to be backed up into a repository.
type SettingError struct {
	Name   string // of the setting
	Value  string // that it has
	Needed string // what it should be
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("backup: the server's %s is %q: it should be %s", e.Name, e.Value, e.Needed)
}

// ArchiveError means that a segment which the server has completed, or replayed, did not arrive in the repository.
type ArchiveError struct {
	Segment  string
	Waited   time.Duration
	Failures int64 // of the server's archiver meanwhile (pg_stat_archiver)
	Standby  bool  // the server is a standby, and the archiver its primary's
}

func (e *ArchiveError) Error() string {
	if e.Standby {
		return fmt.Sprintf("backup: segment %s, which the standby has replayed, is not in the repository after %s: does its primary archive here? "+
			"SELECT pg_switch_wal() there completes another segment", e.Segment, e.Waited.Round(time.Millisecond))
	}
	if e.Failures > 0 {
		return fmt.Sprintf("backup: segment %s did not arrive in the repository: the server's archiver has failed %d times meanwhile, its log says why",
			e.Segment, e.Failures)
	}
	return fmt.Sprintf("backup: segment %s did not arrive in the repository within %s: the archiver is behind, or archives to another place",
		e.Segment, e.Waited.Round(time.Millisecond))
}

// Check proves the road from a server to a repository before the day it is needed. It connects with conn, as with
// [Directory], looks at the role's privileges and the server's settings, creates, reads and deletes an object, makes
// sure that the repository is this cluster's, and has the server switch to a new segment and waits until the one before
// is in the archive. A standby can switch to none: there the segment that it has replayed last has to be in the archive,
// and the settings of archiving are left to a check of the primary.
//
// All steps that can be are taken, whatever the others find. The report is never nil; the error joins those of the
// steps that have failed: *[pgconn.ConnectError], *[VersionError], *[PrivilegeError], *[SettingError], *[wal.ForeignError],
// *[ArchiveError] and what the store fails with.
func Check(ctx context.Context, r *repo.Repo, conn string, o *CheckOptions) (*CheckReport, error) {
	if o == nil {
		o = &CheckOptions{}
	}
	c := &checker{repo: r, options: *o, log: o.Logger, report: &CheckReport{OK: true}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.options.Wait <= 0 {
		c.options.Wait = checkWait
	}
	var err error
	if c.options.Connect, err = connector(conn, o.Connect); err != nil {
		return &CheckReport{}, err
	}
	if c.archive, err = wal.NewArchive(r, &wal.Options{Logger: o.Logger}); err != nil {
		return &CheckReport{}, err
	}
	defer c.close()
	return c.report, c.all(ctx)
}

// checkWait is the default of CheckOptions.Wait. An archiver that has failed three times in a row rests for as long.
const checkWait = time.Minute

type checker struct {
	repo    *repo.Repo
	archive *wal.Archive
	options CheckOptions
	log     *slog.Logger
	report  *CheckReport
	server  *server // nil unless connected
	id      uint64  // the server's system identifier
	reads   bool    // this host can read what it writes
}

func (c *checker) all(ctx context.Context) error {
	connect := c.step(ctx, "connect", c.connect)
	role := c.step(ctx, "role", c.role, connect)
	settings := c.step(ctx, "settings", c.settings, connect)
	store := c.step(ctx, "store", c.store)
	c.step(ctx, "objects", c.objects, store)
	cluster := c.step(ctx, "cluster", c.cluster, connect, store)
	c.step(ctx, "archive", c.archived, role, settings, cluster)
	var failed []error
	for _, s := range c.report.Steps {
		failed = append(failed, s.Err)
	}
	return errors.Join(failed...)
}

// step takes a step, unless one that it needs was not good, and tells whether it was good itself.
func (c *checker) step(ctx context.Context, name string, take func(context.Context) (string, error), needs ...bool) bool {
	s := CheckStep{Name: name, Skipped: slices.Contains(needs, false), Detail: "skipped, since a step before it has failed"}
	if !s.Skipped {
		begun := c.repo.Now()
		s.Detail, s.Err = take(ctx)
		s.Took = c.repo.Now().Sub(begun)
		if s.OK = s.Err == nil; !s.OK {
			s.Detail = strings.ReplaceAll(s.Err.Error(), "\n", "; ")
		}
	}
	c.report.OK = c.report.OK && s.OK
	c.report.Steps = append(c.report.Steps, s)
	if c.options.Progress != nil {
		c.options.Progress(s)
	}
	return s.OK
}

func (c *checker) close() {
	if c.server != nil {
		_ = c.server.close()
	}
}
