package wal

import "fmt"

// Resource is a resource manager: the part of PostgreSQL that wrote a record (rmgrlist.h).
type Resource uint8

// The resource managers whose records are decoded.
const (
	ResourceXLOG        Resource = 0
	ResourceTransaction Resource = 1
	ResourceStorage     Resource = 2
	ResourceDatabase    Resource = 4
)

// resources are the names that pg_waldump gives the resource managers. Those of 128 and more are of extensions.
var resources = [...]string{ //nolint:gochecknoglobals // a constant
	"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby", "Heap2",
	"Heap", "Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin",
	"Generic", "LogicalMessage",
}

const firstCustom = 128

func (r Resource) valid() bool { return int(r) < len(resources) || r >= firstCustom }

// String returns the name that pg_waldump gives it.
func (r Resource) String() string {
	if int(r) < len(resources) {
		return resources[r]
	}
	return fmt.Sprintf("custom%03d", uint8(r))
}
