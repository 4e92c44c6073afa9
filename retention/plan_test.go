package retention_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/retention"
)

// A plan is read by a person who has to agree to it, or by a program.
func TestPlanPrints(t *testing.T) {
	plan, err := retention.NewPlan(t.Context(), threeBackups(), retention.Policy{KeepLast: 1, KeepDaily: 2}, nil)
	require.NoError(t, err)
	require.Regexp(t, `^keep 20261102T000000Z-[0-9a-f]{6}: number 2 of 2 daily: 2026-11-02
keep 20261103T000000Z-[0-9a-f]{6}: the newest backup; .*
drop 20261101T000000Z-[0-9a-f]{6}: no rule keeps it
keep WAL of timeline 1 from [0-9A-F]{24} on
delete 1 objects of backups, \d+ bytes
delete 1 objects of content, \d+ bytes
delete 1 objects of wal, \d+ bytes
$`, plan.String())

	text, err := json.Marshal(plan)
	require.NoError(t, err)
	var doc struct {
		At         string
		Keep, Drop []struct {
			ID      string
			Reasons []string
		}
		Delete []retention.Deletion
		Bytes  int64
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	require.Equal(t, "2026-11-04T00:00:00", doc.At[:19])
	require.Len(t, doc.Keep, 2)
	require.Len(t, doc.Drop, 1)
	require.Equal(t, string(plan.Drop[0].Backup), doc.Drop[0].ID)
	require.NotEmpty(t, doc.Drop[0].Reasons)
	kinds := []string{}
	for _, d := range doc.Delete {
		kinds = append(kinds, d.Kind)
	}
	require.Equal(t, []string{retention.Manifests, retention.Content, retention.Leftovers, retention.WAL}, kinds)
	require.Equal(t, plan.Bytes(), doc.Bytes)
	require.Positive(t, doc.Bytes)
}
