package pgwire

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Backup is a base backup that a server sends: an archive of each tablespace, the data directory's last, and then, when
// it was asked for, the manifest. One goroutine at a time may use it.
type Backup struct {
	Start       Position
	Tablespaces []Tablespace // in the order of their archives
	End         Position     // known once Next has returned io.EOF

	parts  parts
	tar    *tar.Reader // of the archive that is being read; nil between archives
	reader io.Reader   // of the member that Next has returned last

	err    error        // that has ended it; io.EOF when the backup is complete
	detach func() error // lets ctx end without consequences; returns its error if it has ended before
	hangUp func()
}

// MemberType is what a member of a backup is.
type MemberType byte

// The types of members.
const (
	File MemberType = iota
	Directory
	Symlink
	Manifest // the backup_manifest, which comes last
)

// Member is a file or directory in a backup.
type Member struct {
	Tablespace int // index in Backup.Tablespaces of the one that it belongs to
	Type       MemberType
	Name       string      // slash-separated, below the tablespace's location
	Size       int64       // in bytes; -1 for the manifest, whose size nobody tells beforehand
	Mode       fs.FileMode // permissions
	Link       string      // what a Symlink points to
}

// newBackup returns a backup that reads from a server of a major version.
func newBackup(front *pgproto3.Frontend, major int, o *BackupOptions) *Backup {
	return &Backup{
		parts:  parts{receive: receiver(front, o.Notice), plain: major < 15, manifest: o.Manifest},
		detach: func() error { return nil },
		hangUp: func() {},
	}
}

// begin reads what comes before the first archive.
func (b *Backup) begin() error {
	rows, err := readResult(b.parts.receive)
	if err != nil {
		return err
	}
	if b.Start, err = parsePosition(rows); err != nil {
		return err
	}
	if rows, err = readResult(b.parts.receive); err != nil {
		return err
	}
	if b.Tablespaces, err = parseTablespaces(rows); err != nil {
		return err
	}
	return b.parts.begin(b.Tablespaces)
}

// fail ends the backup, and the connection, with an error.
func (b *Backup) fail(err error) error {
	if ended := b.detach(); ended != nil {
		err = ended
	}
	b.hangUp()
	b.err = fmt.Errorf("BASE_BACKUP: %w", err)
	return b.err
}

// Next returns the next member. Its content is what Read returns until Next is called again. When the backup is complete,
// to its end position, Next returns io.EOF, and the connection can be used for commands again. Any other error ends the
// backup and the connection.
func (b *Backup) Next() (*Member, error) {
	if b.err != nil {
		return nil, b.err
	}
	m, err := b.next()
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, io.EOF) {
		return nil, b.fail(err)
	}
	if err := b.detach(); err != nil {
		return nil, b.fail(err)
	}
	b.err = io.EOF
	return nil, io.EOF
}

func (b *Backup) next() (*Member, error) {
	for {
		if b.tar == nil {
			manifest, err := b.parts.next()
			if errors.Is(err, io.EOF) {
				return nil, b.end()
			}
			if err != nil {
				return nil, err
			}
			if manifest {
				b.reader = &b.parts
				return &Member{Type: Manifest, Tablespace: len(b.Tablespaces) - 1, Name: "backup_manifest", Size: -1}, nil
			}
			b.tar = tar.NewReader(&b.parts)
		}
		h, err := b.tar.Next()
		if errors.Is(err, io.EOF) {
			if err := b.parts.padding(); err != nil {
				return nil, err
			}
			b.tar, b.reader = nil, nil
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("archive of tablespace %d: %w", b.Tablespaces[b.parts.part].OID, err)
		}
		b.reader = b.tar
		return b.member(h)
	}
}

// end reads the end position, and up to where the server is ready again.
func (b *Backup) end() error {
	rows, err := readResult(b.parts.receive)
	if err != nil {
		return err
	}
	if b.End, err = parsePosition(rows); err != nil {
		return err
	}
	if err := readReady(b.parts.receive); err != nil {
		return err
	}
	return io.EOF
}

// member makes a member of a header that tarCreateHeader (tar.c) has written.
func (b *Backup) member(h *tar.Header) (*Member, error) {
	m := &Member{Tablespace: b.parts.part, Name: h.Name, Size: h.Size, Mode: h.FileInfo().Mode().Perm()}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		m.Type, m.Name = Directory, strings.TrimSuffix(h.Name, "/")
	case tar.TypeSymlink:
		// Directories are all that is linked to, and named so.
		m.Type, m.Name, m.Link = Symlink, strings.TrimSuffix(h.Name, "/"), h.Linkname
	default:
		return nil, fmt.Errorf("member %q of unknown type %q", h.Name, h.Typeflag)
	}
	// Records of PAX could make a few bytes a file of any size.
	if len(h.PAXRecords) > 0 || m.Size < 0 || m.Type != File && m.Size != 0 {
		return nil, fmt.Errorf("member %q has a header that PostgreSQL does not write", h.Name)
	}
	m.Name = strings.TrimPrefix(m.Name, "./") // pg_wal/archive_status comes so
	if !fs.ValidPath(m.Name) || m.Name == "." {
		return nil, fmt.Errorf("member %q is not below the directory", h.Name)
	}
	return m, nil
}

// Read reads the content of the member that Next has returned last, up to io.EOF.
func (b *Backup) Read(p []byte) (int, error) {
	if b.err != nil && !errors.Is(b.err, io.EOF) {
		return 0, b.err
	}
	if b.err != nil || b.reader == nil {
		return 0, io.EOF
	}
	n, err := b.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.fail(err)
	}
	return n, err
}

// Close ends a backup that has not come to its end, on the server too, and the connection with it. After the end it does
// nothing.
func (b *Backup) Close() {
	if b.err == nil {
		_ = b.fail(errors.New("closed"))
	}
}
