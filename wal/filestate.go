package wal

import "time"

// settled is how long a file must have been left alone for its state to say anything: a file that was changed just now
// may be changed once more within the same tick of the clock that its times are taken from.
const settled = 2 * time.Second

// state tells, without reading it, whether a file is as it was at another time: its device, inode and size, and the times
// at which its content (mtime) and anything of it (ctime) was last changed. It is empty where that cannot be told.
//
// What makes it safe is ctime: the kernel sets it at every write, truncation, rename and link, and there is no call to
// set it back, whatever becomes of mtime. PostgreSQL does not write to a segment that it has marked as ready, which it
// has synced before (XLogWrite of xlog.c). It recycles an archived one by renaming it to that of a later segment
// (InstallXLogFileSegment) and writing to it under that name; should the old name come back, as after recovery to a
// point before it, then with another file, or with this one at another ctime.
func (f *walFile) state() string {
	info, err := f.f.Stat()
	if err != nil {
		return ""
	}
	return fileState(info)
}

// unchanged returns the state of a file that was settled by the time begun, at which its state was before, and has not
// changed since; else nothing.
func (f *walFile) unchanged(before string, begun time.Time) string {
	info, err := f.f.Stat()
	if err != nil || fileState(info) != before || begun.Sub(changed(info)) < settled {
		return ""
	}
	return before
}
