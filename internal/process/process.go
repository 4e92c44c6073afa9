// Package process names running processes, so that another process of the same machine can tell that one is gone.
package process

// ID names a process. Two with the same Host can look for each other.
type ID struct {
	Host  string `json:"host"`  // of this boot, and this PID namespace; empty when unknown
	PID   int    `json:"pid"`   // within Host
	Start string `json:"start"` // when it started, to tell it from a later process with its PID; empty when unknown
}

// Gone tells whether the process has certainly ended: false when it lives, and when nobody can tell from here.
func Gone(id ID) bool {
	if id.Host == "" || id.Start == "" || id.Host != Self().Host {
		return false
	}
	start, err := startOf(id.PID)
	return err == nil && start != id.Start
}

// Alive tells whether there is a process of an id in this PID namespace. It is true also when nobody can tell. A zombie
// counts as none.
func Alive(pid int) bool {
	start, err := startOf(pid)
	return err != nil || start != ""
}
