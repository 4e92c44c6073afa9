// Package repo keeps a repository: objects in a [Store] that are written once, committed whole or not at all,
// compressed, encrypted when a [Cipher] is given, and checked to the last byte when they are read. It knows nothing of
// PostgreSQL; packages wal and backup do.
//
// A program opens a store with [OpenDir] or package bucket, makes it a repository with [Init], and hands the [Repo] to
// the other packages. The bytes are described in FORMAT.md beside this file.
//
// Objects come in two shapes: a stream ([Repo.Put], [Repo.OpenObject]) for what is read from end to end, and a pack
// ([Repo.CreatePack], [Repo.ReadPack]) of frames that can be read one by one.
package repo
