package repo

import (
	"errors"
	"fmt"
)

// Space is the room that a store has, in bytes.
type Space struct {
	Free  int64 `json:"free"` // that this user may fill
	Total int64 `json:"total"`
}

// SpaceOf tells how much room the file system of a store in a directory has. Other stores do not tell, which is an
// error matching errors.ErrUnsupported.
func SpaceOf(s Store) (Space, error) {
	for {
		switch v := s.(type) {
		case *observed:
			s = v.s
		case *retrying:
			s = v.s
		case *dirStore:
			return v.space()
		default:
			return Space{}, fmt.Errorf("repo: space of a store: %w", errors.ErrUnsupported)
		}
	}
}
