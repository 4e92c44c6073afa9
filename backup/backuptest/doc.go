// Package backuptest has a PostgreSQL cluster that is no more than its files, for unit tests of programs that take and
// restore backups: no server, no network, no sleep, and the same bytes each time.
//
// [New] makes a [Cluster], which is a backup.Source: of files that are given as an fs.FS, or of a few that it makes itself.
// Its files and its WAL change only when it is told so, or by the Hook in its [Options], which is also the way to have files
// vanish, shrink and grow while they are read, and to have a server fail. With Logged the WAL tells what was changed, so
// that incremental backups find it there, and it has commits and restore points to recover to. No server boots from what is
// restored; [Cluster.Compare] tells whether the files are the same.
//
// The IDs of backups, and keys, are random. A test that needs those to be the same as well calls
// [testing/cryptotest.SetGlobalRandom].
package backuptest
