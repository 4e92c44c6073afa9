// Package salvage brings single tables back from a backup: those that somebody has dropped, or emptied, or spoiled. Run
// recovers what they need, and little else, to a scratch directory, boots a private server there, hands out a connection
// and a dump, and removes everything again. The cluster that the tables come from need not run, and is not touched.
//
// Fetched are the tables with their indexes and TOAST, the system catalogs and sequences of their database, what all
// databases of the cluster share, and the WAL up to the target, of which all is replayed. The target just before the
// accident is what Before of package restore makes of an event that Archive.Search of package wal finds.
package salvage
