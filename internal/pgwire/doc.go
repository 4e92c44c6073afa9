// Package pgwire speaks PostgreSQL's streaming replication protocol over pgconn: the commands of a walsender and the
// messages of a stream of WAL ("Streaming Replication Protocol" in PostgreSQL's documentation; walsender.c).
//
// Positions are plain numbers here, as this package knows nothing of archives.
package pgwire
