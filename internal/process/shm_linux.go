package process

import "golang.org/x/sys/unix"

// Attached tells whether processes are attached to a System V shared memory segment. Where there is none of that id and
// key, or it is hidden from this user, it is false.
func Attached(key, id uint64) bool {
	var seg unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(int(id), unix.IPC_STAT, &seg); err != nil {
		return false
	}
	return uint32(seg.Perm.Key) == uint32(key) && seg.Nattch > 0
}
