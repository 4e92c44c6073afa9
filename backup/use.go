package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// UseLease is what the names of leases begin with that say that a backup is in use.
const UseLease = "use."

// Use runs f while others can see that the backup is in use, with the WAL that recovery from it reads: retention keeps it
// meanwhile. Whoever reads more than its summary loads the backup within f: then it stays what it is, and whether it was
// deleted just before shows in that. Where nothing can be written, nobody is told, and f is run all the same; see
// [repo.Repo.Hold].
func Use(ctx context.Context, r *repo.Repo, id ID, f func(context.Context) error) error {
	return r.Hold(ctx, UseLease+string(id), f)
}

// User is somebody who uses a backup.
type User struct {
	Backup ID `json:"backup"`
	repo.LeaseInfo
}

// Users returns who uses which backups, by [Use]. Of those who are gone, it returns the ones that cannot be known to be,
// since they were on another host; their lease has expired.
func Users(ctx context.Context, r *repo.Repo) ([]User, error) {
	leases, err := r.Leases(ctx, UseLease)
	if err != nil {
		return nil, fmt.Errorf("backup: who uses backups: %w", err)
	}
	var all []User
	for _, l := range leases {
		name, _, _ := strings.Cut(strings.TrimPrefix(l.Name, UseLease), ".")
		id, err := ParseID(name)
		if err != nil {
			return nil, &repo.CorruptError{Key: "leases/" + l.Name, Err: err}
		}
		all = append(all, User{Backup: id, LeaseInfo: l})
	}
	return all, nil
}
