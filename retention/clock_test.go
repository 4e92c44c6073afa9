package retention_test

import (
	"sync/atomic"
	"time"
)

// clock is a clock that tests set, and that several goroutines ask at once.
type clock struct{ nanos atomic.Int64 }

func (c *clock) set(to time.Time)              { c.nanos.Store(to.UnixNano()) }
func (c *clock) add(d time.Duration) time.Time { return time.Unix(0, c.nanos.Add(int64(d))).UTC() }
func (c *clock) now() time.Time                { return c.add(0) }
