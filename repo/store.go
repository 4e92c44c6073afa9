package repo

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store is the driver of a repository: a flat set of named objects that are created once, committed whole or not at
// all, and never overwritten. [OpenDir], bucket.New and repotest.Mem implement it; repotest.TestStore checks every
// obligation stated here, and whoever writes another Store should run it.
//
// Keys are slash-separated relative paths of printable characters, without empty, "." or ".." elements, at most 1,024
// bytes long. No key may also be a folder of another (x and x/y), since stores kept on a file system cannot hold both.
//
// A Store MUST be safe for concurrent use, by goroutines and by processes. Every method honours its context.
type Store interface {
	// Create starts a new object. Nothing of it is visible under key before [Writer.Commit] returns nil. Create MAY
	// fail with an error matching fs.ErrExist when key already exists; Commit MUST.
	//
	// Cancelling ctx before Commit aborts the object.
	Create(ctx context.Context, key string) (Writer, error)

	// Open reads n bytes of an object from offset off; n < 0 reads to the end. A range that reaches past the end
	// yields the bytes there are. A missing object is an error matching fs.ErrNotExist, and no other error is.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Stat tells an object's size and time. A missing object is an error matching fs.ErrNotExist, and no other is.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields every committed object whose key starts with prefix, in ascending byte order of the keys. After an
	// error it yields nothing more. An empty result is no error.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]

	// Delete removes an object. Deleting what does not exist is no error. Where the store answers that it may not be
	// deleted, the error matches [ErrRefused], and the object is as it was; of any other error it is open whether the
	// object is still there. In a versioned bucket a delete marker takes the object's place, which then counts as missing.
	Delete(ctx context.Context, key string) error
}

// Writer writes one object. It is used by one goroutine at a time.
type Writer interface {
	io.Writer

	// Commit makes the object visible and durable, exclusively: when another object was committed under the same key
	// it fails with an error matching fs.ErrExist and leaves that object as it is. An object that Commit reports as
	// existing is as durable as one that Commit has written. It may be this very object: a store that repeats a request
	// whose answer was lost cannot tell. Any error but fs.ErrExist leaves open whether the object was committed; it was
	// committed whole or not at all.
	Commit() (Info, error)

	// Close releases the writer. Before Commit it aborts and leaves no object; after Commit it does nothing.
	Close() error
}

// Info describes a committed object.
type Info struct {
	Key     string
	Size    int64     // in bytes, as stored
	ModTime time.Time // when it was committed, by the store's clock
}
