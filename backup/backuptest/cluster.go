package backuptest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// Options describe a [Cluster]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Files are the files below the data directory, pg_control and WAL aside. They are copied. Those of a tablespace are
	// below pg_tblspc/<oid>. The default is a small cluster.
	Files fs.FS

	SystemID    uint64 // system identifier; default: 7000000000000000001
	PGVersion   int    // server_version_num; default: 180000
	SegmentSize uint32 // of the WAL, in bytes; default: wal.MinSegmentSize
	RelSegPages uint32 // pages in a file of a relation; default: 131072, as servers have it
	NoChecksums bool   // pages have no checksums

	// Tablespaces are those outside the data directory.
	Tablespaces []backup.Tablespace

	// Logged has the WAL hold what [Cluster.Write] and [Cluster.Remove] do to relations, as that of a server does, so that
	// incremental backups find it there. Each page takes 8 KiB of it. By default its records do nothing, and backups
	// compare.
	Logged bool

	// Catalog is what the server tells of names, whenever a backup asks. Nil is that it tells none.
	Catalog *backup.Catalog

	// Now is the server's clock. By default it begins at 2026-01-01 00:00:00 UTC and goes on by a second each time it is
	// asked.
	Now func() time.Time

	// Hook, when set, is called before everything that a backup asks of the cluster. It may change the cluster. When it
	// returns an error, that is what the backup gets. Backups call it from several goroutines.
	Hook func(Call) error
}

// Call is what a backup asks of a cluster.
type Call struct {
	Op   Operation
	Path string // of a file, when it is opened or read
	Off  int64  // where it is read
}

// Operation is a kind of [Call].
type Operation string

// The kinds of calls, named as the methods of backup.Source, backup.Session and backup.Content, and of what a Session may
// implement besides.
const (
	OpBegin     Operation = "begin"
	OpFiles     Operation = "files"
	OpCatalog   Operation = "catalog"
	OpSummaries Operation = "summaries"
	OpOpen      Operation = "open"
	OpRead      Operation = "read"
	OpStop      Operation = "stop"
)

// Cluster is a cluster without a server. It is a backup.Source, and safe for concurrent use.
type Cluster struct {
	options Options

	mu       sync.Mutex
	clock    time.Time
	files    map[string]*file
	timeline wal.Timeline
	forks    []wal.Fork
	at       wal.LSN                   // end of the WAL
	first    map[wal.Timeline]uint64   // number of the oldest segment there is
	last     map[wal.Timeline]uint64   // number of the newest, which is complete on all timelines but the current
	pushed   map[wal.Timeline][]uint64 // what Archive has seen to
	running  int

	log     *waltest.Log // nil unless Logged
	changes []change     // that are in it
	xid     uint32       // of the last transaction
}

// file keeps its content while it is open, also when it is removed.
type file struct{ data []byte }

// New makes a cluster. It panics when the files cannot be read.
func New(o *Options) *Cluster {
	if o == nil {
		o = &Options{}
	}
	c := &Cluster{
		options: *o, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Second),
		files: map[string]*file{}, timeline: 1,
		first: map[wal.Timeline]uint64{}, last: map[wal.Timeline]uint64{}, pushed: map[wal.Timeline][]uint64{},
	}
	if c.options.SystemID == 0 {
		c.options.SystemID = 7000000000000000001
	}
	if c.options.PGVersion == 0 {
		c.options.PGVersion = 180000
	}
	if c.options.SegmentSize == 0 {
		c.options.SegmentSize = wal.MinSegmentSize
	}
	if c.options.RelSegPages == 0 {
		c.options.RelSegPages = 131072
	}
	if c.options.Now == nil {
		c.options.Now = c.tick
	}
	if c.options.Files == nil {
		for p, b := range c.small() {
			c.files[p] = &file{data: b}
		}
	} else if err := c.load(c.options.Files); err != nil {
		panic(fmt.Sprintf("backuptest: %v", err))
	}
	c.at = c.segment(1).Start() + firstRecord
	c.first[1], c.last[1] = 1, 1
	if c.options.Logged {
		c.log = waltest.NewLog(c.segment(1), c.options.SystemID, c.options.PGVersion/10000)
		c.xid = 741
	}
	return c
}

func (c *Cluster) load(files fs.FS) error {
	return fs.WalkDir(files, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		c.files[p] = &file{data: b}
		return nil
	})
}

// tick is the default clock.
func (c *Cluster) tick() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(time.Second)
	return c.clock
}

// Now asks the server's clock.
func (c *Cluster) Now() time.Time { return c.options.Now() }

// System is what a repository comes to belong to.
func (c *Cluster) System() wal.System {
	return wal.System{ID: c.options.SystemID, SegmentSize: c.options.SegmentSize}
}

// Write writes a file, in place when it exists: whoever has it open sees the new content.
func (c *Cluster) Write(p string, content []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, before := &file{data: slices.Clone(content)}, c.files[p]
	c.logFile(p, before, now, time.Time{})
	if before != nil {
		before.data = now.data
		return
	}
	c.files[p] = now
}

// Remove removes a file. Whoever has it open can go on reading.
func (c *Cluster) Remove(p string) {
	var at time.Time // of the transaction
	if c.log != nil {
		at = c.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[p] == nil {
		return
	}
	c.logFile(p, c.files[p], nil, at)
	delete(c.files, p)
}

// Damage inverts a byte of a page of a relation, as a disk that rots does: the page fails its checksum from then on, and
// the WAL knows nothing of it. The block is counted as that of a backup.BadPage, over all files of the relation. It panics
// when the file has no such page.
func (c *Cluster) Damage(p string, block uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := pgfile.ParseRelation(p)
	f, first := c.files[p], r.Segment*c.options.RelSegPages
	if !ok || f == nil || block < first || int64(block-first+1)*pageSize > int64(len(f.data)) {
		panic(fmt.Sprintf("backuptest: %s has no block %d", p, block))
	}
	f.data = slices.Clone(f.data)
	page := f.data[int64(block-first)*pageSize:][:pageSize]
	copy(page, []byte{0, 0, 0, 0, 1, 0, 0, 0}) // its LSN is one from before any backup: it was not written just now
	page[pageSize-1] ^= 0xff
}

// Read returns the content of a file, or an error matching fs.ErrNotExist.
func (c *Cluster) Read(p string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[p]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return slices.Clone(f.data), nil
}

// Files returns the paths of all files, in order.
func (c *Cluster) Files() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]string, 0, len(c.files))
	for p := range c.files {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Running tells how many backups are in progress on the server.
func (c *Cluster) Running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// directories are those that every data directory has.
func directories() []string {
	return []string{
		"base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_logical/mappings", "pg_logical/snapshots",
		"pg_multixact", "pg_multixact/members", "pg_multixact/offsets", "pg_notify", "pg_replslot", "pg_serial",
		"pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal", "pg_xact",
	}
}

// parents returns the directories above a path, the nearest first.
func parents(p string) []string {
	var all []string
	for p = path.Dir(p); p != "." && p != "/"; p = path.Dir(p) {
		all = append(all, p)
	}
	return all
}

// errClosed is what a session that was closed answers.
var errClosed = errors.New("backuptest: the session is closed")
