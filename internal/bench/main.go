// Command bench compares the example CLI with Debian's pgbackrest on one PostgreSQL cluster with realistic data: full and
// incremental backup, restore, archiving and fetching of single segments, clearing a backlog, and fetching in the order of
// a replay. The two take turns, so that a machine whose speed drifts treats both alike. It prints medians and ratios.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	b := &bench{maps: map[string][sha256.Size]byte{}}
	flag.IntVar(&b.rows, "rows", 2_000_000, "rows of realistic.sql; 1,000,000 make about 830 MB")
	flag.IntVar(&b.runs, "runs", 5, "counted runs of each command, after one that is not")
	flag.IntVar(&b.segments, "segments", 20, "WAL segments that are pushed and fetched one by one")
	flag.IntVar(&b.backlog, "backlog", 64, "WAL segments of a backlog and of a replay")
	flag.StringVar(&b.parts, "parts", "", "names of the parts to run, with commas between; by default all")
	flag.StringVar(&b.cairn, "pgcairn", "bin/pgcairn", "the example CLI")
	flag.BoolVar(&b.blocks, "blocks", false, "have pgbackrest, 2.46 or newer in the PATH, bundle files and keep blocks of incremental backups")
	flag.StringVar(&b.dir, "dir", "/var/tmp/pgcairn-bench", "scratch directory, made and removed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	rows, runs          int
	segments, backlog   int
	parts               string
	blocks              bool
	cairn, dir          string
	pgbin               string
	as                  *syscall.Credential // the user that runs the server and both tools
	identity, recipient string
	names               []string                     // of segments full of the changes of real statements
	archived            string                       // the last segment that both of our repositories need not be given
	maps                map[string][sha256.Size]byte // checksums of free space maps, by path
}

// part is one comparison, or a few of a kind.
type part struct {
	name string
	run  func(context.Context) error
	wal  bool // it needs segments
}

func (b *bench) run(ctx context.Context) error {
	if err := b.setUp(ctx); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	stop, err := b.startServer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	adoptOrphans()
	if err := b.initRepos(ctx); err != nil {
		return err
	}
	for _, p := range []part{
		{name: "backup", run: b.backups},
		{name: "restore", run: b.restores},
		{name: "chain", run: b.chain},
		{name: "segment", run: b.wal, wal: true},
		{name: "client", run: b.clients, wal: true},
		{name: "backlog", run: b.backlogs, wal: true},
		{name: "replay", run: b.replays, wal: true},
		{name: "floor", run: b.floors},
		{name: "s2", run: b.fast},
		{name: "sql", run: b.sql},
		{name: "replication", run: b.replication},
		{name: "quiet", run: b.quiet},
		{name: "incremental", run: b.incrementals}, // which makes the cluster larger
	} {
		if b.parts != "" && !slices.Contains(strings.Split(b.parts, ","), p.name) {
			continue
		}
		if p.wal && b.names == nil {
			if err := b.fill(ctx); err != nil {
				return err
			}
		}
		if err := p.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}

// setUp makes the scratch directory, finds the tools, and writes pgbackrest's configuration.
func (b *bench) setUp(ctx context.Context) error {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return fmt.Errorf("no PostgreSQL of the distribution found: run make tools")
	}
	b.pgbin = filepath.Dir(found[len(found)-1])
	if _, err := exec.LookPath("pgbackrest"); err != nil {
		return fmt.Errorf("no pgbackrest found: run make tools")
	}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		b.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(b.dir, uid, gid); err != nil {
			return err
		}
	}
	// Where the server's user can reach it.
	program := b.path("pgcairn")
	if err := exec.CommandContext(ctx, "cp", b.cairn, program).Run(); err != nil {
		return fmt.Errorf("copy %s: %w: run make build", b.cairn, err)
	}
	b.cairn = program
	for _, name := range []string{"realistic.sql", "scattered.sql"} {
		sql, err := os.ReadFile(filepath.Join("internal/bench", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.path(name), sql, 0o644); err != nil { //nolint:gosec // of a benchmark
			return err
		}
	}
	conf, err := os.ReadFile("internal/bench/pgbackrest.conf")
	if err != nil {
		return err
	}
	for _, repo := range repos {
		text := strings.NewReplacer("/var/tmp/pgbackrest", b.path("pgbackrest", repo), "PGDATA", b.path("data"),
			"SOCKETDIR", b.dir, "PORT", "5432").Replace(string(conf))
		if b.blocks {
			text = strings.Replace(text, "[global]\n", "[global]\nrepo1-bundle=y\nrepo1-block=y\n", 1)
		}
		if repo == "encrypted" {
			text = strings.Replace(text, "[global]\n", "[global]\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=bench\n", 1)
		}
		if err := os.WriteFile(b.path("pgbackrest-"+repo+".conf"), []byte(text), 0o644); err != nil { //nolint:gosec // of a benchmark
			return err
		}
	}
	return nil
}

// startServer makes the cluster and loads the data.
func (b *bench) startServer(ctx context.Context) (stop func(), err error) {
	fmt.Printf("loading %d rows into a cluster of %s\n", b.rows, b.pgbin)
	if _, err := b.do(ctx, b.pg("initdb"), "-k", "-A", "trust", "-U", "postgres", "-D", b.path("data")); err != nil {
		return nil, err
	}
	conf, err := os.OpenFile(b.path("data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conf, "listen_addresses = ''\nunix_socket_directories = '%s'\nmax_wal_size = 4GB\nshared_buffers = 1GB\n"+
		"wal_keep_size = 4GB\narchive_mode = on\narchive_command = 'true'\nautovacuum = off\n", b.dir)
	if err := errors.Join(err, conf.Close()); err != nil {
		return nil, err
	}
	if _, err := b.do(ctx, b.pg("pg_ctl"), "-w", "-D", b.path("data"), "-l", b.path("log"), "start"); err != nil {
		return nil, err
	}
	stop = func() {
		_, _ = b.do(context.WithoutCancel(ctx), b.pg("pg_ctl"), "-w", "-m", "immediate", "-D", b.path("data"), "stop")
	}
	_, err = b.do(ctx, "psql", "-q", "-h", b.dir, "-U", "postgres", "-v", "rows="+strconv.Itoa(b.rows),
		"-f", b.path("realistic.sql"), "-c", "checkpoint", "postgres")
	if err != nil {
		stop()
	}
	return stop, err
}

func (b *bench) pg(name string) string { return filepath.Join(b.pgbin, name) }

// query returns what a query yields.
func (b *bench) query(ctx context.Context, sql string) (string, error) {
	r, err := b.do(ctx, "psql", "-XAtq", "-c", sql)
	return strings.TrimSpace(r.out), err
}
