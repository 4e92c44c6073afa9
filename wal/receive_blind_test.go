package wal_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestReceiveGoesOnFromPieces starts a receiver anew in the middle of a segment, on a host that can read its pieces and
// on one that cannot. A server whose WAL is another than what was shipped is refused, and told of no progress.
func TestReceiveGoesOnFromPieces(t *testing.T) {
	for name, identity := range map[string]string{"can read": keys().identity, "cannot": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := repotest.Mem(nil)
				reader := openArchive(t, s, options(t, "encrypted"))
				run := func(server *walsender) error {
					a, err := reopenArchive(t, s, &repo.Options{Cipher: cipher(t, identity)})
					require.NoError(t, err)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					defer server.cut()
					return a.Receive(ctx, "", &wal.ReceiveOptions{Connect: server.connect})
				}
				require.NoError(t, run(newWalsender(lsn(4, 200_000))))
				requireStreamed(t, reader, segment(4), lsn(4, 200_000))
				require.NoError(t, run(newWalsender(lsn(4, 200_500))))
				requireStreamed(t, reader, segment(4), lsn(4, 200_500))

				other := newWalsender(lsn(4, 300_000))
				other.change = 200_100
				other.report = func(l wal.LSN) {
					if l > lsn(4, 200_100) {
						panic("progress is reported: " + l.String())
					}
				}
				var conflict *wal.ConflictError
				require.ErrorAs(t, run(other), &conflict)
				requireStreamed(t, reader, segment(4), lsn(4, 200_500))

				require.NoError(t, run(newWalsender(lsn(6, 300))))
				requireStreamed(t, reader, segment(4), lsn(6, 300))
				for _, key := range objects(t, s, "pieces/") {
					require.Contains(t, key, segment(6).Name(), "others are folded into their segments")
				}
			})
		})
	}
}
