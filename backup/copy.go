package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/repo"
)

// CopyOptions are the options of [Copy]. A nil *CopyOptions, and the zero value of each field, is its default.
type CopyOptions struct {
	// Backups are those to copy, with the WAL that can be reached from them. The default is all, and all WAL. One that the
	// other repository has, and the source has no more, is done: more of its WAL is copied where an identity of the other
	// repository is given, since only its copy tells where that begins.
	Backups []ID

	// OnlyConsistent copies of the WAL only what it takes to make the backups consistent. The default goes on to the end
	// of the archive, on every timeline that can be reached from the backups.
	OnlyConsistent bool

	// Decrypt is the consent to copy what is encrypted to a repository that is not. Without it that is [ErrDecrypts].
	Decrypt bool

	// Jobs is how many objects are copied beside each other. The default is the number of processors. Each takes up to 2 MiB
	// of memory for each processor, and what the store takes to write an object.
	Jobs int

	// Rate bounds how much is read from the source, in bytes a second, of all jobs together and without bursts. The
	// default, 0, is no bound.
	Rate int64

	// Progress, when set, is told how far the copy has come. It is called from Copy's own goroutine, a few times a second,
	// and not after Copy has returned.
	Progress func(CopyProgress)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// CopyProgress tells how far a copy has come.
type CopyProgress struct {
	Phase     string        // "list", "backups", "wal"
	Backup    ID            // that is being copied; empty when none is
	Bytes     int64         // read from the source so far
	Total     int64         // bytes there are to read, as far as is known
	Objects   int           // that were copied
	Rate      int64         // bytes read a second, over the last ten; 0 when not known
	Remaining time.Duration // to read the rest at that rate; 0 as Rate is
}

// CopyResult is what [Copy] did.
type CopyResult struct {
	Backups  []ID          `json:"backups"`  // that were copied, oldest first
	Present  []ID          `json:"present"`  // that were there before
	Expired  []ID          `json:"expired"`  // that were deleted from the source meanwhile
	Problems []CopyProblem `json:"problems"` // what could not be copied
	Segments int           `json:"segments"` // of WAL that were copied
	Objects  int           `json:"objects"`  // that were copied, manifests and WAL among them
	Bytes    int64         `json:"bytes"`    // read from the source
}

// ErrDecrypts means that a copy would leave unencrypted what is encrypted.
var ErrDecrypts = errors.New("the source is encrypted and the repository to copy to is not: copy to one with recipients, or consent by Decrypt")

// Copy copies backups, and WAL, from a repository to another one, which may be in another store and have other keys. It
// needs an identity of the source, if that is encrypted, and recipients of the other. What is there already is not copied
// again, so a copy that was cut short is resumed, and one that is repeated copies what has come since.
//
// Every byte is checked on the way. What is damaged in the source is not copied, nor are the backups that need it; the
// rest is, and the error is a *[CopyError] then, beside the result. Nor is a backup copied when a pack of it that is there
// already has not the size of a copy; its bytes are not read, which is for [Verify]. Backups keep their IDs, and packs and
// WAL their keys. A backup's packs, and the WAL that makes it consistent, are there before its manifest, and WAL is
// committed in its order: whenever a copy is cut short, each backup that the other repository lists can be restored, to
// where its WAL ends.
//
// A copy is for the recipients of the other repository. Packs that one which was cut short has left there encrypted to a data
// key that is retired, or for others than just these, are deleted and copied anew; where that is not permitted, or where not
// all manifests there can be read, which tell whether a backup needs them, the backup is left out. So is one of which the WAL
// that makes it consistent was there before and is not for all of these recipients, until the keys there are rotated. What
// backups need that were there before stays as it is, and so does all other WAL, for whomever it is.
//
// Nothing of the source changes but that the oldest backup to copy that it has is marked as in use, see [Use], so that
// retention keeps it and the WAL from there on; where nothing can be written, that is left out. Nobody is kept from using
// the source, and it is read as it is: a backup that is in progress is not
// copied, and one that is deleted meanwhile is left out. WAL that is deleted meanwhile is a problem of the result, and so a
// *[CopyError], where it leaves a hole in the copy. In the other repository it holds the lease [LeaseName]: while a
// backup or another copy is in progress there, the error is a *[repo.LeaseError]. If that belongs to another cluster it
// is a *[wal.ForeignError], and a *[wal.ConflictError] if it holds other WAL of a timeline, as when it was promoted. A
// backup of Options.Backups that neither has is an error matching fs.ErrNotExist.
//
// Backups and WAL that were deleted from the other repository come back, as long as the source has them.
func Copy(ctx context.Context, from, to *repo.Repo, o *CopyOptions) (*CopyResult, error) {
	if o == nil {
		o = &CopyOptions{}
	}
	if from.Encrypted() && !to.Encrypted() && !o.Decrypt {
		return nil, fmt.Errorf("backup: copy: %w", ErrDecrypts)
	}
	for _, id := range o.Backups {
		if _, err := ParseID(string(id)); err != nil {
			return nil, err
		}
	}
	c := &copier{
		from: from, to: to, options: *o, log: o.Logger,
		pace: pace.New(o.Rate, from.Now), problems: map[string]*CopyProblem{},
		folders: map[ID]map[string]int64{}, checked: map[timelineOf]bool{}, sizes: copySizes{from: from, to: to},
		keys:   copyKeys{to: to, uses: map[string]repo.KeyUse{}, fits: map[string]bool{}},
		result: CopyResult{Backups: []ID{}, Present: []ID{}, Expired: []ID{}, Problems: []CopyProblem{}},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.options.Jobs <= 0 {
		c.options.Jobs = runtime.GOMAXPROCS(0)
	}
	c.now.Store(&copyPhase{name: "list"})
	err := to.WithLease(ctx, LeaseName, func(ctx context.Context, l *repo.Lease) error { return c.watch(ctx, l) })
	if err != nil {
		return nil, err
	}
	return c.finish()
}
