//go:build !linux && !darwin

package repo

import (
	"errors"
	"fmt"
)

func (d *dirStore) space() (Space, error) {
	return Space{}, fmt.Errorf("repo: space of a directory: %w", errors.ErrUnsupported)
}
