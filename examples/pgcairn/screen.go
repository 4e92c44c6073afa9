package main

import (
	"io"
	"sync"

	"github.com/schollz/progressbar/v3"
)

// screen is stderr, shared by the log and a progress bar: a line of the log goes where the bar was, and the bar below.
type screen struct {
	w io.Writer

	mu  sync.Mutex
	bar *progressbar.ProgressBar // nil when there is none
}

// Write implements io.Writer for the log.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	return s.w.Write(p)
}

// show runs f with the bar, which is made when there is none. What is shown tells the rate itself.
func (s *screen) show(f func(*progressbar.ProgressBar)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar == nil {
		s.bar = progressbar.NewOptions64(
			-1,
			progressbar.OptionSetWriter(s.w),
			progressbar.OptionFullWidth(),
			progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetSpinnerChangeInterval(0), // or a goroutine would draw beside us, for ever
			progressbar.OptionSetPredictTime(false),
		)
	}
	f(s.bar)
}

// done takes the bar away.
func (s *screen) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}
