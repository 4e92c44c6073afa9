package drill

import (
	"context"
	"errors"
	"time"

	"github.com/pgcairn/pgcairn/backup"
)

// leaveReceipt leaves a receipt of a drill that has ended, where one is asked for. What has failed is told by its phase
// alone: a receipt is not encrypted, and a server's log, or a check, may tell of what the database holds.
func (d *drill) leaveReceipt(ctx context.Context, begun time.Time) {
	r := d.report
	if !d.options.Receipt || ctx.Err() != nil || r.Phase == PhasePlan && r.Unreachable == nil {
		return
	}
	t := &backup.Receipt{Kind: backup.ReceiptDrill, BeganAt: begun, EndedAt: d.repo.Now(), OK: r.OK, ReadData: r.RestoredBytes > 0, Bytes: r.RestoredBytes}
	if r.Plan != nil {
		t.Backups = []backup.ID{r.Plan.Backup.ID}
	}
	if !r.OK {
		t.Problems, t.Problem = 1, "it failed in phase "+string(r.Phase)
	}
	if err := backup.WriteReceipt(ctx, d.repo, t); err != nil && !errors.Is(err, context.Canceled) {
		d.options.Logger.WarnContext(ctx, "cannot leave a receipt of the drill", "error", err)
	}
}
