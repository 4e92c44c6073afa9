package restore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// A server that begins to start once the directory was looked at keeps what it has, also where global is a link.
func TestServerStartsMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	for _, linked := range []bool{false, true} {
		p := newPlace(t)
		_, err := f.run(t, p, restore.Options{})
		require.NoError(t, err)
		global := filepath.Join(p.data, "global")
		if linked {
			elsewhere := filepath.Join(filepath.Dir(p.data), "elsewhere")
			require.NoError(t, os.Rename(global, elsewhere))
			require.NoError(t, os.Symlink("../elsewhere", global))
		}
		write(t, filepath.Join(p.data, "postmaster.pid"), "") // it is beginning
		was := p.tree(t)
		write(t, filepath.Join(p.data, "pgcairn.restore"), "{}")
		err = restore.TakeControl(p.data)
		require.True(t, is[*restore.RunningError](err), "%v", err)
		requireSame(t, was, p.tree(t))
		require.FileExists(t, filepath.Join(global, "pg_control"))

		require.NoError(t, os.Remove(filepath.Join(p.data, "postmaster.pid")))
		write(t, filepath.Join(p.data, "pgcairn.restore"), "{}")
		require.NoError(t, restore.TakeControl(p.data))
		requireNoCluster(t, p.data)
	}
}
