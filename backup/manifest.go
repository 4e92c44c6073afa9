package backup

import (
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Type is how much of the cluster a backup has stored. Whatever the type, its manifest tells where every byte is: what
// has not changed, in packs of backups before it.
type Type string

// The types of backups. Auto is a wish only: it becomes Incremental, or Full.
const (
	Full         Type = "full"
	Differential Type = "differential" // what has changed since the newest full one
	Incremental  Type = "incremental"  // what has changed since the newest of any type
	Auto         Type = "auto"
)

// Method is how it was found out what has changed in relations. Everything else is always compared.
type Method string

// The methods, in the order in which a backup tries them.
const (
	ByIndex   Method = "wal-index"   // the indexes of the archived WAL
	BySummary Method = "wal-summary" // the server's own WAL summaries
	ByLSN     Method = "page-lsn"    // reading all pages, and looking at the LSN in each
	ByCompare Method = "compare"     // reading all pages, and comparing them by their frames' hashes
)

// Summary is the head of a manifest: what a catalogue shows, and a planner needs to know.
type Summary struct {
	ID        ID           `json:"id"`
	Kind      string       `json:"kind"` // "base"
	Type      Type         `json:"type"`
	Parent    ID           `json:"parent,omitempty"` // that it stores the difference to
	Method    Method       `json:"method,omitempty"` // by which that was found
	Reason    string       `json:"reason,omitempty"` // why the type or the method is not the one wished for
	SystemID  uint64       `json:"system_id,string"`
	PGVersion int          `json:"pg_version"` // server_version_num: 150004 is 15.4
	Timeline  wal.Timeline `json:"timeline"`
	StartLSN  wal.LSN      `json:"start_lsn"` // recovery begins here
	StopLSN   wal.LSN      `json:"stop_lsn"`  // the cluster is consistent from here on
	StartedAt time.Time    `json:"started_at"`
	StoppedAt time.Time    `json:"stopped_at"` // both by the server's clock, as commits are

	ClusterBytes int64             `json:"cluster_bytes"`          // size of the files
	ReadBytes    int64             `json:"read_bytes"`             // read from the source
	StoredBytes  int64             `json:"stored_bytes"`           // of the packs that it wrote
	ReusedBytes  int64             `json:"reused_bytes,omitempty"` // as stored: taken over from backups that were killed
	Files        int               `json:"files"`
	BadPages     int               `json:"bad_pages"` // that fail their checksum
	Pinned       bool              `json:"pinned"`
	Labels       map[string]string `json:"labels"`

	Packs          int    `json:"packs"`
	PageSize       uint32 `json:"page_size"`        // in bytes
	WALSegmentSize uint32 `json:"wal_segment_size"` // in bytes
	DataChecksums  bool   `json:"data_checksums"`
}

// Tablespace is a tablespace kept outside the data directory.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Name     string `json:"name"`
	Location string `json:"location"` // directory on the host that was backed up
}

// FirstSegment is the segment that recovery from the backup begins with.
func (s *Summary) FirstSegment() wal.Segment {
	return wal.SegmentAt(s.Timeline, s.StartLSN, s.WALSegmentSize)
}

// LastSegment is the last segment that it takes to make the backup consistent.
func (s *Summary) LastSegment() wal.Segment {
	return wal.SegmentAt(s.Timeline, s.StopLSN-1, s.WALSegmentSize)
}

// Manifest describes a backup in full. It lists every file of the cluster and where its bytes are.
type Manifest struct {
	Summary
	Label         string       // content of backup_label
	TablespaceMap string       // content of tablespace_map, which restore makes anew
	Control       []byte       // content of pg_control
	Tablespaces   []Tablespace // ascending by OID
	Directories   []string     // slash-separated, below the data directory
	FileList      []File       // ascending by Path
	PackList      []PackPieces // ascending by Key
	BadPageList   []BadPage
	Catalog       *Catalog // nil where the source knows no names
}

// File is a file of the cluster. Bytes that no piece covers are zero.
type File struct {
	Path string `json:"path"` // slash-separated, below the data directory
	Size int64  `json:"size"` // in bytes
	Data int64  `json:"data"` // bytes that pieces cover
}

// PackPieces is a pack, of this backup or of one before it, and what its frames hold.
type PackPieces struct {
	repo.Pack
	Pieces [][]Piece // of each frame, in the order of its raw bytes
}

// Needs tells whether anything of a frame is needed.
func (p *PackPieces) Needs(frame int) bool { return len(p.Pieces[frame]) > 0 }

// Piece says that the next Length raw bytes of a frame belong to a file at Offset. A frame without pieces is not needed.
type Piece struct {
	File   int // index in the manifest's FileList, or NoFile
	Offset int64
	Length int
}

// NoFile is the File of pieces that are of an earlier backup only: they have changed since, or their file is gone.
const NoFile = -1

// BadPage is a page that failed its checksum, twice, and was not being written meanwhile. It is in the backup as it is.
type BadPage struct {
	Path  string `json:"path"`  // of the file
	Block uint32 `json:"block"` // number in the relation's fork, counted over all its files
}
