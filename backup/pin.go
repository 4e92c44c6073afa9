package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/repo"
)

// RetentionLease is the lease that is held by whoever deletes backups, and by who says which of them are not to be.
const RetentionLease = "retention"

const pinFolder = "pins/"

// pinRecord is the content of pins/<backup id>/<n>. The highest n counts, since nothing is overwritten.
type pinRecord struct {
	Pinned bool      `json:"pinned"`
	At     time.Time `json:"at"`
}

func (id ID) pinKey(n int) string { return fmt.Sprintf(pinFolder+"%s/%08d", id, n) }

// Pin keeps a backup from being dropped, with as much WAL as a policy keeps for backups of its age, until [Unpin] is
// called. When it returns nil, a retention that is planned or begins later obeys; while one is being carried out it is a
// *[repo.LeaseError]. A backup that does not exist is an error matching fs.ErrNotExist. A backup that is pinned already
// stays so.
func Pin(ctx context.Context, r *repo.Repo, id ID) error { return setPinned(ctx, r, id, true) }

// Unpin is the reverse of [Pin]. It gives up a pinned backup whose manifest is gone, too.
func Unpin(ctx context.Context, r *repo.Repo, id ID) error { return setPinned(ctx, r, id, false) }

func setPinned(ctx context.Context, r *repo.Repo, id ID, pinned bool) error {
	if _, err := ParseID(string(id)); err != nil {
		return err
	}
	return r.WithLease(ctx, RetentionLease, func(ctx context.Context, l *repo.Lease) error {
		_, serr := r.Store().Stat(ctx, id.manifestKey())
		if serr != nil && (pinned || !errors.Is(serr, fs.ErrNotExist)) {
			return fmt.Errorf("backup: %s: %w", id, serr)
		}
		last, is, err := pinOf(ctx, r, id)
		if err == nil && serr != nil && !is {
			return fmt.Errorf("backup: %s: %w", id, serr)
		}
		if err != nil || is == pinned {
			return notMissing(err)
		}
		if err := l.Confirm(ctx); err != nil {
			return err
		}
		err = r.CreateRecord(ctx, id.pinKey(last+1), pinRecord{pinned, r.Now().UTC()})
		if errors.Is(err, fs.ErrExist) {
			// Maybe its answer was lost, and the store was asked again. Who else says the same will do as well.
			is, rerr := readPin(ctx, r, id, last+1)
			if rerr != nil {
				return notMissing(rerr)
			}
			if is == pinned {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		for n := last; n > 0; n-- {
			_ = r.Store().Delete(ctx, id.pinKey(n)) // only the highest counts
		}
		return nil
	})
}

// pinOf returns the number of a backup's last record, or 0, and whether it is pinned.
func pinOf(ctx context.Context, r *repo.Repo, id ID) (last int, pinned bool, err error) {
	for info, err := range r.Store().List(ctx, pinFolder+string(id)+"/") {
		if err != nil {
			return 0, false, fmt.Errorf("backup: list pins: %w", err)
		}
		if _, last, err = parsePinKey(info.Key); err != nil {
			return 0, false, err
		}
	}
	if last == 0 {
		return 0, false, nil
	}
	pinned, err = readPin(ctx, r, id, last)
	return last, pinned, err
}

func readPin(ctx context.Context, r *repo.Repo, id ID, n int) (bool, error) {
	var p pinRecord
	if err := r.ReadRecord(ctx, id.pinKey(n), &p); err != nil {
		return false, fmt.Errorf("backup: %w", err)
	}
	return p.Pinned, nil
}

func parsePinKey(key string) (id ID, n int, err error) {
	name, digits, _ := strings.Cut(strings.TrimPrefix(key, pinFolder), "/")
	id, err = ParseID(name)
	if err == nil {
		n, err = strconv.Atoi(digits)
	}
	if err != nil || n < 1 || key != id.pinKey(n) {
		return "", 0, &repo.CorruptError{Key: key, Err: errors.New("not a pin")}
	}
	return id, n, nil
}

// Pinned returns the backups that are pinned. It lists the pins and reads one record of each backup that has any. Those
// whose records are corrupt are among them, beside an error that joins an *[UnreadableError] for each.
func Pinned(ctx context.Context, r *repo.Repo) (map[ID]bool, error) {
	last := map[ID]int{}
	var bad []error
	for info, err := range r.Store().List(ctx, pinFolder) {
		if err != nil {
			return nil, fmt.Errorf("backup: list pins: %w", err)
		}
		id, n, err := parsePinKey(info.Key)
		if err != nil {
			bad = append(bad, &UnreadableError{info.Key, err})
			continue
		}
		last[id] = max(last[id], n)
	}
	pinned := map[ID]bool{}
	for id, n := range last {
		is, err := readPin(ctx, r, id, n)
		if errors.Is(err, fs.ErrNotExist) { // another one has come since
			_, is, err = pinOf(ctx, r, id)
		}
		var corrupt *repo.CorruptError
		switch {
		case errors.As(err, &corrupt):
			bad = append(bad, &UnreadableError{id.pinKey(n), err})
			pinned[id] = true
		case err != nil:
			return nil, notMissing(err)
		case is:
			pinned[id] = true
		}
	}
	return pinned, errors.Join(bad...)
}

// notMissing hides fs.ErrNotExist, which is no answer of the one who was asked.
func notMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}
