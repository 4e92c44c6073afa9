// Package pgtest boots real PostgreSQL servers for tests, and checks what they hold with independent means.
//
// [New] makes a cluster and starts it, [Cluster.Follow] a standby of one, [Each] repeats a test on every supported major
// version, [Boot] starts a server on a directory that was restored. [Checksums] tells whether two clusters hold the same
// data; [Amcheck] and [PgChecksums] whether one is sound; [StartLoad] and [StartPgbench] keep a cluster busy meanwhile.
//
// The servers of [Majors] come from packages pinned in the folder servers; they bring no client tools. Debian's server
// ([Options.Distro]) brings all of them. Both are installed by "make tools"; where one is missing the test fails, it is
// never skipped.
//
// PostgreSQL refuses to run as root. When the tests run as root, servers run as the user postgres, or nobody where there
// is no such user, and own the directories that they are given; take directories that a server has to reach from [Dir].
package pgtest
