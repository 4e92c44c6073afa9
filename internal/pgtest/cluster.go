package pgtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Options say how [New] makes a cluster. The zero value of each field is its default, and nil is allowed.
type Options struct {
	Major       int               // a major version; default: [Newest], or the distribution's with Distro
	Distro      bool              // use the distribution's server, which comes with every client tool
	NoChecksums bool              // no data checksums; default: checksums on every major
	SegmentSize int64             // size of a WAL segment in bytes, a power of two from 1 MiB; default: 16 MiB
	InitArgs    []string          // more arguments for initdb
	Conf        map[string]string // settings for postgresql.conf; they travel with a backup
	Fsync       bool              // let the server sync; off by default, for speed
	TCP         bool              // listen on 127.0.0.1 besides the socket, on a free port
	Env         []string          // more environment variables for the server, and so for its archive_command
}

// Cluster is a PostgreSQL cluster with a server that runs or can be started. Its methods take the test that they are
// part of, and fail it when they cannot do what they say.
//
// One goroutine at a time may start and stop the server; the other methods may be used by several.
type Cluster struct {
	Major  int
	Data   string // the data directory
	Socket string // the directory of the socket
	Port   int    // of the socket and, with TCP, on 127.0.0.1

	bin     string   // directory of the programs
	logFile string   // what the server prints
	args    []string // -c settings of every start
	env     []string
	server  *process // nil while stopped
}

// New makes a cluster with initdb and starts it. The superuser is postgres, without a password; encoding and locale are
// UTF8 and C. After the test the server is stopped and everything removed; if the test failed, the end of the server's
// log is shown.
func New(t testing.TB, o *Options) *Cluster {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	dir := Dir(t)
	c := newCluster(t, filepath.Join(dir, "data"), dir, serverOptions{
		major: o.Major, distro: o.Distro, fsync: o.Fsync, tcp: o.TCP, env: o.Env,
	})
	Run(t, filepath.Join(c.bin, "initdb"), c.initArgs(o)...)
	if err := appendConf(filepath.Join(c.Data, "postgresql.conf"), o.Conf); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.Start(t)
	return c
}

// DSN returns a connection string for a database of the cluster, as the superuser, by the socket. Both pgx and libpq
// read it, and it may stand in primary_conninfo.
func (c *Cluster) DSN(db string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", c.Socket, c.Port, dsnQuote(db))
}

// Log returns what the server has printed since the cluster was made.
func (c *Cluster) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(c.logFile)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return string(b)
}

func (c *Cluster) initArgs(o *Options) []string {
	args := []string{
		"--pgdata=" + c.Data, "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync",
	}
	switch {
	case !o.NoChecksums:
		args = append(args, "--data-checksums")
	case c.Major >= 18:
		args = append(args, "--no-data-checksums") // on by default since 18
	}
	if o.SegmentSize != 0 {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", o.SegmentSize>>20))
	}
	return append(args, o.InitArgs...)
}

func appendConf(path string, settings map[string]string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(settings[name])
		if _, err := fmt.Fprintf(f, "%s = '%s'\n", name, value); err != nil {
			_ = f.Close() // the write error says it
			return err
		}
	}
	return f.Close()
}

func dsnQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
