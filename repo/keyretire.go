package repo

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// retirement is the content of keys/<id>.retired. That it is there is all that counts.
type retirement struct {
	RetiredAt time.Time `json:"retired_at"`
}

// RetireKeys makes every host write with a new data key from now on, and returns the ids of those it has retired: who
// has one of them, and is not a recipient of the hosts, cannot read what is written then. What was written stays as it
// is, and readable.
//
// A process notices at its first write, and one that has written before at the first object that it begins five minutes
// later, by the clock of its [Options]. The mark that tells is not secret, and whoever can delete from the store can
// withhold it.
//
// It may be killed and run again, beside all else. It takes neither recipients nor the right identity.
func (r *Repo) RetireKeys(ctx context.Context) (retired []string, err error) {
	if r.keys == nil {
		return nil, ErrNotEncrypted
	}
	all, err := r.keys.list(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, of := range all {
		if of.retired {
			continue
		}
		err := r.CreateRecord(ctx, retiredKey(of.id), retirement{r.now().UTC().Truncate(time.Second)})
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return retired, err
		}
		retired = append(retired, of.id)
	}
	return retired, nil
}
