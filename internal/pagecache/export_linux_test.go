package pagecache

// ByHand makes a File do what the kernel could.
func (f *File) ByHand() { f.kernel.Store(false) }

// Ahead tells what is being read ahead.
func (f *File) Ahead() (from, to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ahead.from, f.ahead.to()
}

// Cached tells which pages are cached, of a file of size bytes.
func (f *File) Cached(size int64) []bool {
	cached := []bool{}
	for _, b := range f.residency(0, size).cached {
		cached = append(cached, b&1 != 0)
	}
	return cached
}
