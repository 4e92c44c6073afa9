package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// connect reaches the server and makes sure that it is of a supported version.
func (c *checker) connect(ctx context.Context) (string, error) {
	conn, err := c.options.Connect(ctx)
	if err != nil {
		return "", fmt.Errorf("backup: connect to the server: %w", err)
	}
	c.server = &server{conn: conn, log: c.log}
	id, port, err := c.server.identity(ctx)
	if err != nil {
		return "", err
	}
	c.id = id
	what := fmt.Sprintf("PostgreSQL %d.%d at port %d, system identifier %d", c.server.version/10000, c.server.version%10000, port, id)
	if c.server.standby {
		what += ", a standby"
	}
	return what, nil
}

// role makes sure that the role may start and stop a backup and, with SQL, read files; or that it may replicate.
func (c *checker) role(ctx context.Context) (string, error) {
	if c.options.Replication {
		return c.replicates(ctx)
	}
	functions, what := c.server.backupFunctions(), "start and stop a backup"
	if c.options.SQL {
		functions, what = append(functions, c.server.fileFunctions()...), "start and stop a backup, and list and read files"
	}
	role, err := c.server.mayExecute(ctx, functions...)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q may %s", role, what), nil
}

// replicates makes sure that the role may replicate, and from here (pg_hba.conf).
func (c *checker) replicates(ctx context.Context) (string, error) {
	config := c.server.conn.Config()
	config.RuntimeParams["replication"] = "true"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", fmt.Errorf("backup: connect for replication: %w", err)
	}
	defer func() { _ = hangUp(conn) }()
	system, err := pgwire.Identify(ctx, conn.PgConn())
	if err != nil {
		return "", fmt.Errorf("backup: ask the server: %w", err)
	}
	if system.ID != c.id {
		return "", &OtherServerError{}
	}
	return fmt.Sprintf("%q may replicate", config.User), nil
}

// settings makes sure that the server writes and archives the WAL that a recovery needs. Of a standby that is its
// primary's part, whose wal_level its own does not tell, and without which it could not be connected to.
func (c *checker) settings(ctx context.Context) (string, error) {
	var level, mode, command, library string
	query := `select current_setting('wal_level'), current_setting('archive_mode'), current_setting('archive_command'),
		coalesce(current_setting('archive_library', true), '')` // since 15
	if err := c.server.conn.QueryRow(ctx, query).Scan(&level, &mode, &command, &library); err != nil {
		return "", fmt.Errorf("backup: ask the server: %w", err)
	}
	if c.server.standby {
		return fmt.Sprintf("archive_mode is %s on this standby; what counts are the primary's settings, which a check of that looks at", mode), nil
	}
	var wrong []error
	if level != "replica" && level != "logical" {
		wrong = append(wrong, &SettingError{Name: "wal_level", Value: level, Needed: "replica or logical, which takes a restart"})
	}
	if mode != "on" && mode != "always" {
		wrong = append(wrong, &SettingError{Name: "archive_mode", Value: mode, Needed: "on, which takes a restart"})
	} else if command == "" && library == "" {
		wrong = append(wrong, &SettingError{Name: "archive_command", Value: command, Needed: "a command that pushes %p to the repository"})
	}
	if wrong != nil {
		return "", errors.Join(wrong...)
	}
	if library != "" {
		return fmt.Sprintf("wal_level is %s, archive_mode %s, archive_library %s", level, mode, library), nil
	}
	return fmt.Sprintf("wal_level is %s, archive_mode %s, archive_command %s", level, mode, command), nil
}

// store probes the store below the repository.
func (c *checker) store(ctx context.Context) (string, error) {
	if err := repo.Probe(ctx, c.repo.Store()); err != nil {
		return "", err
	}
	return "creates, reads and deletes objects, and refuses to create one twice", nil
}

// objects takes an object through compression and encryption and back.
func (c *checker) objects(ctx context.Context) (string, error) {
	content := []byte("pgcairn check " + rand.Text())
	key := "probe/" + rand.Text()
	_, err := c.repo.Put(ctx, key, nil, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return "", err
	}
	defer func() {
		// Where deleting is not permitted it stays, as does that of repo.Probe.
		_ = c.repo.Store().Delete(context.WithoutCancel(ctx), key)
	}()
	got, err := c.readObject(ctx, key, int64(len(content)))
	var corrupt *repo.CorruptError
	switch {
	case err == nil && !bytes.Equal(got, content):
		return "", fmt.Errorf("backup: %s was read with another content than it was written with", key)
	case err == nil:
		c.reads = true
		return "written and read back" + map[bool]string{true: ", encrypted"}[c.repo.Encrypted()], nil
	case !c.repo.Encrypted() || c.options.MustRead || errors.As(err, &corrupt) || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil:
		return "", err
	}
	if err := c.readStored(ctx, key); err != nil {
		return "", err
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return "written, encrypted; this host cannot read it: " + err.Error(), nil
}

func (c *checker) readObject(ctx context.Context, key string, size int64) ([]byte, error) {
	obj, err := c.repo.OpenObject(ctx, key)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	return io.ReadAll(io.LimitReader(obj, size+1))
}

// readStored reads an object as it is stored: then it was only the key that was lacking.
func (c *checker) readStored(ctx context.Context, key string) error {
	body, err := c.repo.Store().Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

// cluster makes sure that the repository is that of the server's cluster.
func (c *checker) cluster(ctx context.Context) (string, error) {
	sys, err := c.archive.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "the repository belongs to no cluster yet: the first segment or backup claims it", nil
	}
	if err != nil {
		return "", err
	}
	if sys.ID != c.id {
		return "", &wal.ForeignError{Name: "the server", Got: c.id, Want: sys.ID}
	}
	return fmt.Sprintf("the repository belongs to system identifier %d", sys.ID), nil
}

// archived has the server complete a segment, and waits until it is in the archive.
func (c *checker) archived(ctx context.Context) (string, error) {
	if c.server.standby {
		return c.followed(ctx)
	}
	if _, err := c.server.mayExecute(ctx, "pg_switch_wal()"); err != nil {
		return "", err
	}
	before, err := c.failures(ctx)
	if err != nil {
		return "", err
	}
	n, err := c.switchWAL(ctx)
	if err != nil {
		return "", err
	}
	wait := c.options.Wait
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	poll := time.NewTicker(checkPoll)
	defer poll.Stop()
	for {
		have, err := c.archive.Has(ctx, n)
		if err != nil {
			return "", err
		}
		if have {
			break
		}
		now, err := c.failures(ctx)
		if err != nil {
			return "", err
		}
		lost := &ArchiveError{Segment: n.String(), Waited: wait, Failures: now - before}
		if lost.Failures >= archiverTries {
			return "", lost
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-deadline.C:
			return "", lost
		case <-poll.C:
		}
	}
	return c.arrived(ctx, n, "")
}

const (
	// checkPoll is how often the archive is asked for a segment.
	checkPoll = 200 * time.Millisecond
	// archiverTries is how often the archiver tries before it rests for a minute (NUM_ARCHIVE_RETRIES of pgarch.c).
	archiverTries = 3
)

// switchWAL makes the server complete its current segment, and returns that one.
func (c *checker) switchWAL(ctx context.Context) (wal.Name, error) {
	fail := func(err error) (wal.Name, error) {
		return wal.Name{}, fmt.Errorf("backup: switch to a new segment: %w", err)
	}
	// An empty segment is not switched away from, so something has to be in it. The end that pg_switch_wal returns may
	// be the end of the segment, where pg_walfile_name depends on the version; the timeline does not.
	if _, err := c.server.conn.Exec(ctx, `select pg_logical_emit_message(false, 'pgcairn', 'check')`); err != nil {
		return fail(err)
	}
	var end, timeline, size string
	query := `select lsn::text, left(pg_walfile_name(lsn), 8), s.setting
		from pg_switch_wal() lsn, pg_settings s where s.name = 'wal_segment_size'`
	if err := c.server.conn.QueryRow(ctx, query).Scan(&end, &timeline, &size); err != nil {
		return fail(err)
	}
	lsn, err := wal.ParseLSN(end)
	if err != nil {
		return fail(err)
	}
	t, err := wal.ParseTimeline(timeline)
	if err != nil {
		return fail(err)
	}
	bytes, err := strconv.ParseUint(size, 10, 32)
	if err != nil {
		return fail(err)
	}
	return wal.ParseName(wal.SegmentAt(t, lsn-1, uint32(bytes)).Name())
}

// failures is how often the server's archiver has failed.
func (c *checker) failures(ctx context.Context) (n int64, err error) {
	if err := c.server.conn.QueryRow(ctx, `select failed_count from pg_stat_archiver`).Scan(&n); err != nil {
		return 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	return n, nil
}
