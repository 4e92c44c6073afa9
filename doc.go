// Package pgcairn is the map of a library for putting PostgreSQL backup inside other programs: physical backups, WAL
// archiving, point-in-time recovery, retention and client-side encryption, on an object store or a directory. It holds no code.
//
// Package [github.com/pgcairn/pgcairn/repo] keeps objects in a store, committed whole or not at all: compressed,
// encrypted, and checked to the last byte when they are read. It knows nothing of PostgreSQL. Start here: OpenDir or
// package bucket beside it, then Init. Retry has a store outlast outages, RotateKeys and RetireKeys change who can read.
//
// Package [github.com/pgcairn/pgcairn/crypto] encrypts with age. A host that backs up holds recipients only, and cannot
// read what it wrote; identities stay where restores happen.
//
// Package [github.com/pgcairn/pgcairn/wal] archives segments, by command (Archive.Push, PushReady) or by streaming
// (Archive.Receive), brings them back (Archive.Fetch), tells what is held (Archive.Coverage), reads records (Records),
// and knows from an index of them what the cluster did and when (Archive.Search). It defines LSN, Timeline and Segment. An
// archive is of one cluster, and of the one that pg_upgrade makes of it once that was consented to (Archive.Upgrade).
// Archives are several of the same cluster, which it pushes to, heals, and reads from.
//
// Package [github.com/pgcairn/pgcairn/backup] takes backups of a running cluster (Take), lists and loads them (List,
// Load), and proves that the road works before it is needed (Check). TakeAll feeds several repositories, Copy copies to another
// one, Verify makes sure that what is there can be restored, Pin keeps a backup whatever policies say.
//
// Package [github.com/pgcairn/pgcairn/restore] plans a recovery to a target (Prepare, NewPlan) and does it (Plan.Run).
// Package [github.com/pgcairn/pgcairn/restore/drill] beside it proves that it would work (Run): it restores to a scratch
// directory, boots a private server there, asks it, and cleans up. By the same means package
// [github.com/pgcairn/pgcairn/restore/salvage] brings single tables back without the rest (Run), and package
// [github.com/pgcairn/pgcairn/restore/health] tells how a repository is (Check).
//
// Package [github.com/pgcairn/pgcairn/retention] decides what to keep (Policy.Decide), and is the only code that deletes
// committed data (NewPlan, Plan.Apply).
//
// # The three flows
//
//	backup    Source -> files -> pages checked -> frames -> zstd -> age -> packs -> Store; the manifest last
//	wal push  file -> name and header checked -> digest, index of records -> zstd -> age -> Store, exclusively
//	restore   backups and coverage -> Plan -> packs -> frames checked -> files; pg_control last
//
// # Rules that hold everywhere
//
// Values in, values out: no global state, no printing, no configuration file, no goroutine that outlives the call that
// started it. A context comes first and is honoured. Options come last, may be nil, and have useful zero values. A
// missing object is an error matching fs.ErrNotExist and a taken name one matching fs.ErrExist; other errors that a
// caller may act on are typed. "It is not there" and "I could not look" are never confused.
//
// # Compatibility
//
// The repository format is described in repo/FORMAT.md; what one released version has written, every later one reads.
// The Go API may still change before version 1.
package pgcairn
