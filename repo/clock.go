package repo

import "time"

// now is the default of every Now option in this package, and the clock by which [Observe] measures.
func now() time.Time { return time.Now() } //nolint:forbidigo // the one default clock
