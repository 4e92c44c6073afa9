package pgfile_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/stretchr/testify/require"
)

func TestParseLockFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		content string
		want    pgfile.LockFile
		wrong   bool
	}{
		{"4711\n/data\n1795256130\n5432\n/run\nlocalhost\n 12345678         7\nready   \n", pgfile.LockFile{PID: 4711, DataDir: "/data", ShmKey: 12345678, ShmID: 7}, false},
		{"-4711\n/data\n1795256130\n5432\n\n\n 12345678         7\n", pgfile.LockFile{PID: 4711, DataDir: "/data", ShmKey: 12345678, ShmID: 7}, false},
		{"4711\n", pgfile.LockFile{PID: 4711}, false},
		{"4711\n/data\n1\n5432\n\n\n1 x\n", pgfile.LockFile{PID: 4711, DataDir: "/data"}, false},
		{"", pgfile.LockFile{}, true},
		{"\n/data\n", pgfile.LockFile{}, true},
		{"0\n", pgfile.LockFile{}, true},
		{"99999999999\n", pgfile.LockFile{}, true},
		{"server\n", pgfile.LockFile{}, true},
	}
	for _, tt := range tests {
		got, err := pgfile.ParseLockFile([]byte(tt.content))
		require.Equal(t, tt.wrong, err != nil, "%q", tt.content)
		if tt.wrong {
			require.ErrorIs(t, err, pgfile.ErrLockFile)
		}
		require.Equal(t, tt.want, got, "%q", tt.content)
	}
}
