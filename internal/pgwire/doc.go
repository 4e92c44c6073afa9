// Package pgwire speaks PostgreSQL's streaming replication protocol over pgconn: the commands of a walsender, the messages
// of a stream of WAL, and base backups ("Streaming Replication Protocol" in PostgreSQL's documentation; walsender.c,
// basebackup.c, basebackup_copy.c).
//
// Positions are plain numbers here, as this package knows nothing of archives.
package pgwire
