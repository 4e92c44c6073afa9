package pgtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BootOptions say how [Boot] starts a server. The zero value of each field is its default, and nil is allowed.
type BootOptions struct {
	Distro  bool              // use the distribution's server
	Conf    map[string]string // settings for the command line; they win over those in the directory's files
	Standby bool              // be content once connections are accepted; default: wait until recovery has ended
	Fsync   bool              // let the server sync; off by default, for speed
	TCP     bool              // listen on 127.0.0.1 besides the socket, on a free port
	Env     []string          // more environment variables for the server, and so for its restore_command
	Timeout time.Duration     // until it must be ready; default: two minutes
}

// Boot starts a server of the given major version (0: the one that PG_VERSION names) on an existing data directory. The
// directory is given to the user that servers run as, with [Own]. Sockets and ports in the directory's files do not
// count. After the test the server is stopped; the directory is left to whoever made it.
func Boot(t testing.TB, pgdata string, major int, o *BootOptions) *Cluster {
	t.Helper()
	c, err := TryBoot(t, pgdata, major, o)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return c
}

// TryBoot does what [Boot] does, and returns an error, with the end of the server's log, where Boot fails the test: when
// the server ends, or is not ready in time. Then no server runs.
func TryBoot(t testing.TB, pgdata string, major int, o *BootOptions) (*Cluster, error) {
	t.Helper()
	if o == nil {
		o = &BootOptions{}
	}
	if major == 0 {
		var err error
		if major, err = majorOf(pgdata); err != nil {
			return nil, err
		}
	}
	Own(t, pgdata)
	c := newCluster(t, pgdata, Dir(t), serverOptions{
		major: major, distro: o.Distro, fsync: o.Fsync, tcp: o.TCP, env: o.Env,
	})
	for _, name := range slices.Sorted(maps.Keys(o.Conf)) {
		c.args = append(c.args, "-c", name+"="+o.Conf[name])
	}
	if err := c.start(t, o.Standby, o.Timeout); err != nil {
		return nil, err
	}
	return c, nil
}

// serverOptions are what a new and an existing cluster have in common.
type serverOptions struct {
	major              int
	distro, fsync, tcp bool
	env                []string
}

// newCluster describes a cluster whose data is in pgdata and whose socket and log are in dir.
func newCluster(t testing.TB, pgdata, dir string, o serverOptions) *Cluster {
	t.Helper()
	c := &Cluster{
		Major: o.major, Data: pgdata, Socket: dir, Port: 5432,
		logFile: filepath.Join(dir, "server.log"), env: o.env,
	}
	if o.distro {
		major := DistroMajor(t)
		if c.Major != 0 && c.Major != major {
			t.Fatalf("pgtest: the distribution has PostgreSQL %d, not %d", major, c.Major)
		}
		c.Major, c.bin = major, filepath.Dir(DistroBin(t, "postgres"))
	} else {
		if c.Major == 0 {
			c.Major = Newest()
		}
		c.bin = BinDir(t, c.Major)
	}
	listen := ""
	if o.tcp {
		listen, c.Port = "127.0.0.1", freePort(t)
	}
	c.args = []string{
		"-D", c.Data,
		"-c", "unix_socket_directories=" + c.Socket,
		"-c", "port=" + strconv.Itoa(c.Port),
		"-c", "listen_addresses=" + listen,
		"-c", "fsync=" + strconv.FormatBool(o.fsync),
		"-c", "logging_collector=off",
		"-c", "log_destination=stderr",
	}
	t.Cleanup(func() { c.discard(t) })
	return c
}

// majorOf reads the major version that a data directory belongs to.
func majorOf(pgdata string) (int, error) {
	b, err := os.ReadFile(filepath.Join(pgdata, "PG_VERSION"))
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("PG_VERSION of %s: %w", pgdata, err)
	}
	return major, nil
}
