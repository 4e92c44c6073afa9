package retention

import (
	"fmt"
	"time"
)

// Zone is a time zone. As text it is its name in the IANA time zone database, such as Europe/Vienna. The zero Zone is UTC.
type Zone struct{ Location *time.Location }

// IsZero tells whether it is the default.
func (z Zone) IsZero() bool { return z.Location == nil }

// MarshalText implements encoding.TextMarshaler. A zone that cannot be found by its name is an error.
func (z Zone) MarshalText() ([]byte, error) {
	name := z.Location.String() // of nil, UTC
	if _, err := time.LoadLocation(name); err != nil {
		return nil, fmt.Errorf("retention: time zone %q: %w", name, err)
	}
	return []byte(name), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It reads the time zone database, as time.LoadLocation does.
func (z *Zone) UnmarshalText(text []byte) error {
	l, err := time.LoadLocation(string(text))
	if err != nil {
		return fmt.Errorf("retention: time zone %q: %w", text, err)
	}
	z.Location = l
	return nil
}

// in returns a time as the zone's clocks show it.
func (z Zone) in(t time.Time) time.Time {
	if z.Location == nil {
		return t.UTC()
	}
	return t.In(z.Location)
}
