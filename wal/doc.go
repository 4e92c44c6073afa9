// Package wal archives PostgreSQL's write-ahead log (WAL) in a repository and brings it back.
//
// [Archive.Push] is what an archive_command calls, [Archive.Fetch] what a restore_command calls, [Archive.Receive] archives
// by streaming, [Archive.Coverage] tells what is held, and [Archive.Search] what the cluster did, by the index that each
// segment has with it. [Records] reads WAL itself. Beside them stand the vocabulary of WAL: [LSN], [Timeline], [Segment],
// the grammar of file names ([ParseName]), history files ([ParseHistory]) and the header of a segment ([ReadHeader]).
//
// A nil error of Push means that the segment is durable in the repository, and fs.ErrNotExist from Fetch means that
// the archive was asked and does not hold it. Neither is ever said on a guess.
package wal
