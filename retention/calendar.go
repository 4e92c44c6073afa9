package retention

import (
	"fmt"
	"time"
)

// The names of the periods that a time is in. Within a zone no two periods of a kind have the same.

func hourOf(t time.Time) string  { return t.Format("2006-01-02 15h -07:00") } // a repeated hour has another offset
func dayOf(t time.Time) string   { return t.Format("2006-01-02") }
func monthOf(t time.Time) string { return t.Format("2006-01") }
func yearOf(t time.Time) string  { return t.Format("2006") }

// weekOf is the ISO week, whose year may be the one before or after.
func weekOf(t time.Time) string {
	y, w := t.ISOWeek()
	return fmt.Sprintf("%04d-W%02d", y, w)
}
