// Package pagecache reads files and leaves the kernel's page cache as it was: a backup reads all there is, once, and must
// evict neither what the server has cached nor what it is about to.
//
// Linux does just this since 6.14 when it is asked for it with each read (RWF_DONTCACHE; ext4, XFS, Btrfs and more).
// Otherwise it is done by hand: what was not cached before it was read (mincore) is dropped afterwards
// (POSIX_FADV_DONTNEED). What others do does not help, or harms: dropping all that was read, as Bacula does and restic
// did, throws out the server's own pages, and POSIX_FADV_NOREUSE is about mapped files.
//
// The kernel's reading ahead is turned off. It reads beyond what one of several readers of a file is to read, and makes
// it look like the server's. Instead a [File] reads ahead itself, and no further than it is told to.
//
// Who neither owns a file nor may write it is not told what is cached; by hand, nothing is dropped then. On other systems
// than Linux files are read as they are.
package pagecache
