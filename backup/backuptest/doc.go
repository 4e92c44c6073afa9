// Package backuptest has a PostgreSQL cluster that is no more than its files, for unit tests of programs that take and
// restore backups: no server, no network, no sleep, and the same bytes each time.
//
// [New] makes a [Cluster], which is a backup.Source. Its files and its WAL change only when it is told so, or by the
// Hook in its [Options], which is also the way to have files vanish, shrink and grow while they are read, and to have a
// server fail. No server boots from what is restored; [Cluster.Compare] tells whether the files are the same.
package backuptest
