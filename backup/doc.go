// Package backup takes physical backups of PostgreSQL clusters into a repository and reads what it took.
//
// [Take] backs up a [Source]: the data directory on this host ([Directory]), a server that only SQL reaches ([SQL]), or
// one that sends its files itself ([Replication]). [List] and [Load] read the catalogue, and [Check] proves the whole road
// before the day it is needed. A backup is committed by one exclusive write of its manifest, after all its content and all
// the WAL it needs to become consistent are durable. What is in the catalogue therefore restores.
//
// The server may be a standby. Then the last segment of WAL may have to be waited for, since only its primary completes
// it: a warning of the Logger in [Options] says so, and ctx ends it. Backups of a primary and of its standbys may build on
// each other. After a promotion the next backup is a full one.
package backup
