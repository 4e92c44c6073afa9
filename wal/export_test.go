package wal

// ParseKey is the reverse of Key.
func ParseKey(s System, key string) (Name, error) { return s.parseKey(key) }

// Key is the key of a file in the archive of a cluster.
func Key(s System, n Name) string { return s.key(n) }
