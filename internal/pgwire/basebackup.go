package pgwire

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// BackupOptions are the options of [BaseBackup]. A nil *BackupOptions, and the zero value of each field, is its default.
// WAL is never part of the backup.
type BackupOptions struct {
	// Label shows in backup_label. The default is the server's.
	Label string

	// Fast has the checkpoint that the backup begins with at once. The default spreads it over time.
	Fast bool

	// Progress asks for the sizes of tablespaces, for which the server looks at every file beforehand.
	Progress bool

	// WaitForArchive has the server end the backup only once its WAL is archived.
	WaitForArchive bool

	// MaxRate bounds how much is sent, in KiB a second, from 32 to 1048576. The default is no bound.
	MaxRate int

	// TablespaceMap has tablespaces listed in a file tablespace_map, in place of links in pg_tblspc. It is needed where
	// one is at a path of more than 99 bytes. Before PostgreSQL 16 the server then leaves out what is in tablespaces in
	// place (allow_in_place_tablespaces).
	TablespaceMap bool

	// VerifyChecksums has the server check pages: after it has sent a backup with pages that do not match, it fails. Before
	// PostgreSQL 15 it does not, once it has sent one without on the same connection.
	VerifyChecksums bool

	// Manifest asks for a backup_manifest, with a CRC-32C of each file.
	Manifest bool

	// Incremental asks for what has changed since the backup whose manifest was uploaded with [UploadManifest] on the same
	// connection. Before PostgreSQL 17 it is errors.ErrUnsupported.
	Incremental bool

	// Notice, when set, is told what the server has to say, such as of files that it leaves out.
	Notice func(*pgconn.Notice)
}

// Position is where a backup begins or ends.
type Position struct {
	LSN      uint64
	Timeline uint32
}

// Tablespace is a part of the cluster that comes as an archive of its own.
type Tablespace struct {
	OID      uint32 // 0 for the data directory
	Location string // empty for the data directory; relative for a tablespace in place
	Size     int64  // in bytes, about; -1 when it was not asked for
}

// maxLabel is what do_pg_backup_start takes: MAXPGPATH.
const maxLabel = 1024

// command returns the command for a server of a major version.
func (o *BackupOptions) command(major int) (string, error) {
	if len(o.Label) > maxLabel || strings.ContainsFunc(o.Label, func(r rune) bool { return r < ' ' }) {
		return "", fmt.Errorf("label %q: at most %d bytes, and no control characters, are allowed", o.Label, maxLabel)
	}
	if o.Incremental && major < 17 {
		return "", fmt.Errorf("incremental backup: %w before PostgreSQL 17", errors.ErrUnsupported)
	}
	var list []string
	// Before 15 there are flags, and those that are on are named.
	flag := func(on bool, old, now string) {
		switch {
		case major >= 15:
			list = append(list, now+" "+strconv.FormatBool(on))
		case on && old != "":
			list = append(list, old)
		}
	}
	if o.Label != "" {
		list = append(list, "LABEL '"+strings.ReplaceAll(o.Label, "'", "''")+"'")
	}
	flag(o.Progress, "PROGRESS", "PROGRESS")
	switch {
	case major >= 15 && o.Fast:
		list = append(list, "CHECKPOINT 'fast'")
	case o.Fast:
		list = append(list, "FAST")
	}
	flag(o.TablespaceMap, "TABLESPACE_MAP", "TABLESPACE_MAP")
	if major >= 15 {
		flag(o.WaitForArchive, "", "WAIT")
		flag(o.VerifyChecksums, "", "VERIFY_CHECKSUMS")
	} else {
		flag(!o.WaitForArchive, "NOWAIT", "")
		flag(!o.VerifyChecksums, "NOVERIFY_CHECKSUMS", "")
	}
	if o.MaxRate != 0 {
		list = append(list, fmt.Sprintf("MAX_RATE %d", o.MaxRate))
	}
	if o.Manifest {
		list = append(list, "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'")
	}
	if o.Incremental {
		list = append(list, "INCREMENTAL true")
	}
	if major < 15 {
		return "BASE_BACKUP " + strings.Join(list, " "), nil
	}
	return "BASE_BACKUP (" + strings.Join(list, ", ") + ")", nil
}

// BaseBackup starts a base backup, and returns once the server has begun to send it. What the server refuses leaves the
// connection usable. When ctx ends, be it later, so do the backup and the connection.
func BaseBackup(ctx context.Context, c *pgconn.PgConn, o *BackupOptions) (*Backup, error) {
	if o == nil {
		o = &BackupOptions{}
	}
	version := major(c.ParameterStatus("server_version"))
	command, err := o.command(version)
	if err != nil {
		return nil, fmt.Errorf("BASE_BACKUP: %w", err)
	}
	front := c.Frontend()
	front.SetMaxBodyLen(maxMessage)
	b := newBackup(front, version, o)
	b.attach(ctx, c)
	front.SendQuery(&pgproto3.Query{String: command})
	if err := front.Flush(); err != nil {
		return nil, b.fail(err)
	}
	err = b.begin()
	if err == nil {
		return b, nil
	}
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && awaitReady(front) == nil && b.detach() == nil {
		return nil, fmt.Errorf("BASE_BACKUP: %w", err)
	}
	return nil, b.fail(err)
}

// attach lets the backup live as long as ctx, and its connection end with it.
func (b *Backup) attach(ctx context.Context, c *pgconn.PgConn) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = c.Conn().Close() // whoever waits for the server is told so
	})
	b.detach = sync.OnceValue(func() error {
		if !stop() {
			<-closed
		}
		return ctx.Err()
	})
	b.hangUp = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
		defer cancel()
		// A server that waits for a checkpoint or an archiver does not look whether the connection is still there.
		_ = c.CancelRequest(ctx)
		_ = c.Close(ctx)
	}
}

// hangUpTimeout is how long the server is waited for when a backup is given up.
const hangUpTimeout = 5 * time.Second
