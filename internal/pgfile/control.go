package pgfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// ControlPath is where pg_control is in a data directory.
const ControlPath = "global/pg_control"

// ErrControlCRC means that pg_control does not match its checksum: it was torn by a write, or is damaged.
var ErrControlCRC = errors.New("pg_control does not match its checksum")

// InArchiveRecovery is the State of a standby's cluster, and of one that recovers (DB_IN_ARCHIVE_RECOVERY).
const InArchiveRecovery = 5

// Control is what pg_control tells that a backup needs (ControlFileData of PostgreSQL's pg_control.h).
type Control struct {
	SystemID        uint64
	ControlVersion  uint32
	CatalogVersion  uint32
	State           uint32 // DBState
	CheckpointRedo  uint64 // LSN
	Timeline        uint32 // of the latest checkpoint
	MinRecovery     uint64 // LSN up to which a standby's files may have come; 0 when not in recovery
	MinTimeline     uint32 // of that
	Resources       Resources
	PageSize        uint32 // in bytes
	RelSegPages     uint32 // pages in a file of a relation
	WALSegmentSize  uint32 // in bytes
	ChecksumVersion uint32 // 0: no page checksums
}

// Resources are the settings of the server that wrote pg_control which must not be lower where its WAL is replayed
// (CheckRequiredParameterValues of PostgreSQL's xlogrecovery.c).
type Resources struct {
	MaxConnections          uint32
	MaxWorkerProcesses      uint32
	MaxWALSenders           uint32
	MaxPreparedTransactions uint32
	MaxLocksPerTransaction  uint32
}

// ParseControl parses and checks the content of pg_control of PostgreSQL 13 to 18, on a little-endian machine.
func ParseControl(b []byte) (Control, error) {
	le := binary.LittleEndian
	if len(b) < 296 {
		return Control{}, fmt.Errorf("pg_control has %d bytes only", len(b))
	}
	c := Control{SystemID: le.Uint64(b), ControlVersion: le.Uint32(b[8:]), CatalogVersion: le.Uint32(b[12:])}
	var crcAt int
	switch c.ControlVersion {
	case 1300, 1700: // 13 to 16, 17
		crcAt = 288
	case 1800: // 18: default_char_signedness came before the nonce
		crcAt = 292
	default:
		return Control{}, fmt.Errorf("pg_control version %d is none of PostgreSQL 13 to 18", c.ControlVersion)
	}
	if crc32.Checksum(b[:crcAt], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[crcAt:]) {
		return Control{}, ErrControlCRC
	}
	c.State = le.Uint32(b[16:])
	c.CheckpointRedo = le.Uint64(b[40:])
	c.Timeline = le.Uint32(b[48:])
	c.MinRecovery = le.Uint64(b[136:])
	c.MinTimeline = le.Uint32(b[144:])
	c.Resources = Resources{
		MaxConnections: le.Uint32(b[180:]), MaxWorkerProcesses: le.Uint32(b[184:]), MaxWALSenders: le.Uint32(b[188:]),
		MaxPreparedTransactions: le.Uint32(b[192:]), MaxLocksPerTransaction: le.Uint32(b[196:]),
	}
	c.PageSize = le.Uint32(b[216:])
	c.RelSegPages = le.Uint32(b[220:])
	c.WALSegmentSize = le.Uint32(b[228:])
	c.ChecksumVersion = le.Uint32(b[252:])
	if c.PageSize < 1<<10 || c.PageSize > 32<<10 || c.PageSize&(c.PageSize-1) != 0 || c.RelSegPages == 0 {
		return Control{}, fmt.Errorf("pg_control: page size %d, %d pages a file", c.PageSize, c.RelSegPages)
	}
	return c, nil
}

// ReadControl reads pg_control below a data directory, as [ReadControlBy] does.
func ReadControl(pgdata string) (c Control, content []byte, err error) {
	path := filepath.Join(pgdata, ControlPath)
	return ReadControlBy(func() ([]byte, error) { return os.ReadFile(path) })
}

// ReadControlBy reads and parses pg_control. The server writes it in place, so a read that finds it torn is repeated, a
// bounded number of times.
func ReadControlBy(read func() ([]byte, error)) (c Control, content []byte, err error) {
	for range 1000 {
		if content, err = read(); err != nil {
			return Control{}, nil, err
		}
		if c, err = ParseControl(content); !errors.Is(err, ErrControlCRC) {
			return c, content, err
		}
	}
	return Control{}, nil, err
}
