package restore_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

var soak = flag.Bool("soak", false, "kill backups and restores 200 times each, rather than 20 times, and test on all servers")

// kills is how often a process is killed.
func kills() int {
	if *soak {
		return 200
	}
	return 20
}

// childEnv holds the job of a test binary that was started to be killed.
const childEnv = "PGCAIRN_TEST_JOB"

// job is what such a process does.
type job struct {
	Repo        string            // directory of the repository
	Data, Conn  string            // of a cluster to be backed up
	Recipient   string            // that the repository is encrypted to, by a host that cannot read it; or empty
	State       string            // directory of the host
	Type        backup.Type       // of the backup
	Rate        int64             // of the backup, whose packs are not compressed then
	Restore     string            // directory to restore to instead
	Tablespaces map[string]string // of the restore
	Delta       bool              // the restore is one
}

func TestMain(m *testing.M) {
	if scratch := os.Getenv(fetchEnv); scratch != "" {
		os.Exit(fetchAsCommand(context.Background(), scratch, os.Args[1], os.Args[2]))
	}
	if text := os.Getenv(childEnv); text != "" {
		var j job
		err := json.Unmarshal([]byte(text), &j)
		if err == nil {
			err = j.do(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (j job) open(ctx context.Context) (*repo.Repo, error) {
	store, err := repo.OpenDir(j.Repo, nil)
	if err != nil {
		return nil, err
	}
	o := &repo.Options{StateDir: j.State}
	if j.Recipient != "" {
		to, err := age.ParseX25519Recipient(j.Recipient)
		if err != nil {
			return nil, err
		}
		if o.Cipher, err = crypto.New([]age.Recipient{to}, nil); err != nil {
			return nil, err
		}
	}
	return repo.Open(ctx, store, o)
}

func (j job) do(ctx context.Context) error {
	fmt.Println("begin")
	r, err := j.open(ctx)
	if err != nil {
		return err
	}
	if j.Restore == "" {
		s, err := backup.Directory(j.Data, j.Conn, nil)
		if err != nil {
			return err
		}
		o := &backup.Options{Type: j.Type, Rate: j.Rate}
		if j.Rate > 0 {
			o.Compression = repo.Uncompressed
		}
		_, err = backup.Take(ctx, r, s, o)
		return err
	}
	p, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	if err != nil {
		return err
	}
	_, err = p.Run(ctx, r, j.Restore, &restore.Options{Tablespaces: j.Tablespaces, Delta: j.Delta})
	return err
}

// child is a process that does a job.
type child struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error
}

// start starts a process and returns when it has begun with its job.
func (j job) start(t *testing.T) *child {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	c := &child{cmd: exec.Command(exe), done: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GORACE=atexit_sleep_ms=0") // or it rests for a second
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "begin\n", line)
	go func() { c.done <- c.cmd.Wait() }()
	return c
}

// wait lets the process end by itself and returns how long that took.
func (c *child) wait(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	require.NoError(t, <-c.done, c.stderr.String())
	return time.Since(begun)
}

// kill kills the process at a moment, a fraction of the time that it takes. It may have ended by then, successfully;
// then that is what it takes.
func (c *child) kill(t *testing.T, moment float64, takes *time.Duration) (killed bool) {
	t.Helper()
	begun := time.Now()
	select {
	case err := <-c.done:
		require.NoError(t, err, c.stderr.String())
		*takes = (*takes + time.Since(begun)) / 2
		return false
	case <-time.After(time.Duration(moment * float64(*takes))):
	}
	if err := c.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(t, err)
	}
	err := <-c.done
	require.Empty(t, c.stderr.String())
	return err != nil
}

// moments returns random ones, one in each of n parts of a job, so that few kills reach all of it.
func moments(n int) []float64 {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]float64, n)
	for i := range all {
		all[i] = (float64(i) + r.Float64()) / float64(n)
	}
	r.Shuffle(n, func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all
}

// killCluster is a small cluster with a tablespace.
func killCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, &pgtest.Options{SegmentSize: 1 << 20, Conf: archiving()})
	c.Exec(t,
		fmt.Sprintf(`create tablespace fast location '%s'`, ownDir(t, pgtest.Dir(t), "fast")),
		`create table t as select i, md5(i::text) as text from generate_series(1, 20000) i`,
		`create table in_fast tablespace fast as select i, md5(i::text) as text from generate_series(1, 20000) i`,
		// The smaller it is, the more of it can be killed.
		`update pg_database set datistemplate = false`, `drop database template0`, `drop database template1`, `checkpoint`)
	return c
}

// A backup that is killed, at whatever moment, is not listed unless it is whole, and is not in the way of the next.
func TestKilledBackups(t *testing.T) {
	t.Parallel()
	c := killCluster(t)
	dir := t.TempDir()
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	_, err = repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	j := job{Repo: dir, Data: c.Data, Conn: c.DSN("postgres")}
	takes := j.start(t).wait(t)
	have, killed := 1, 0
	for i, moment := range moments(kills()) {
		if j.start(t).kill(t, moment, &takes) {
			killed++
		}
		all := requireWhole(t, j)
		require.GreaterOrEqual(t, all, have)
		have = all
		if *soak || i%5 == 4 {
			takes = (takes + j.start(t).wait(t)) / 2
			have++
			require.Equal(t, have, requireWhole(t, j))
		}
	}
	require.Greater(t, killed, kills()/4)
	require.Eventually(t, func() bool {
		return pgtest.Value[int64](t, c, `select count(*) from pg_replication_slots`) == 0
	}, 10*time.Second, 10*time.Millisecond)

	want := pgtest.Checksums(t, c)
	j.start(t).wait(t)
	r, err := j.open(t.Context())
	require.NoError(t, err)
	b := recovered(t, r, restore.Latest(), nil, &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(pgtest.Dir(t), "fast")}}, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
	t.Logf("%d of %d backups were killed, one takes %v", killed, kills(), takes)
}

// requireWhole requires that every backup listed is there whole, and returns how many there are.
func requireWhole(t *testing.T, j job) int {
	t.Helper()
	r, err := j.open(t.Context())
	require.NoError(t, err)
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for i, s := range all {
		if i < len(all)-2 {
			continue // it was found whole before
		}
		m, err := backup.Load(t.Context(), r, s.ID)
		require.NoError(t, err)
		for _, p := range m.PackList {
			info, err := r.Store().Stat(t.Context(), p.Key)
			require.NoError(t, err)
			require.Equal(t, p.Size, info.Size)
			if i == len(all)-1 {
				require.NoError(t, r.ReadPack(t.Context(), p.Pack, func(int, []byte) error { return nil }))
			}
		}
		for seg := m.FirstSegment(); seg.Number <= m.LastSegment().Number; seg = seg.Next() {
			n, err := wal.ParseName(seg.Name())
			require.NoError(t, err)
			have, err := a.Has(t.Context(), n)
			require.NoError(t, err)
			require.True(t, have)
		}
	}
	return len(all)
}

// A restore that is killed, at whatever moment, leaves nothing that boots unless it is whole, and is not in the way of
// the next.
func TestKilledRestores(t *testing.T) {
	t.Parallel()
	c := killCluster(t)
	repoDir := t.TempDir()
	store, err := repo.OpenDir(repoDir, nil)
	require.NoError(t, err)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	_, err = backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	c.Exec(t, `insert into in_fast select i, 'later' from generate_series(1, 1000) i`)
	want := pgtest.Checksums(t, c)
	pushAll(t, c, r)

	base := pgtest.Dir(t)
	at := func(name string) job {
		return job{Repo: repoDir, Restore: filepath.Join(base, name), Tablespaces: map[string]string{"fast": filepath.Join(base, name+"-fast")}}
	}
	whole := at("whole")
	takes := whole.start(t).wait(t)
	wholeTree := restored(t, whole)
	j := at("data")
	killed, halves := 0, 0
	for i, moment := range moments(kills()) {
		if j.start(t).kill(t, moment, &takes) {
			killed++
		}
		if exists(filepath.Join(j.Restore, "global", "pg_control")) {
			require.Equal(t, wholeTree, restored(t, j), "what has a pg_control is whole")
			if !exists(filepath.Join(j.Restore, "pgcairn.restore")) { // nothing was left to be done
				clearAway(t, j)
				continue
			}
		} else if halves++; halves <= 2 && exists(filepath.Join(j.Restore, "PG_VERSION")) {
			_, err := pgtest.TryBoot(t, j.Restore, pgtest.Newest(), nil)
			require.Error(t, err)
		}
		if !*soak && i%5 != 4 && i != kills()-1 {
			continue // the next is killed as well, in the midst of clearing up maybe
		}
		takes = (takes + j.start(t).wait(t)) / 2
		require.Equal(t, wholeTree, restored(t, j))
		if i%10 == 9 || i == kills()-1 {
			b := pgtest.Boot(t, j.Restore, 0, nil)
			require.Equal(t, want, pgtest.Checksums(t, b))
			b.Stop(t)
		}
		clearAway(t, j)
	}
	require.Greater(t, killed, kills()/4)
	t.Logf("%d of %d restores were killed, %d of them half way, one takes %v", killed, kills(), halves, takes)
}

// A delta restore that is killed, at whatever moment, leaves what was there before, untouched, or what is whole, or nothing
// that boots. The next makes it whole.
func TestKilledDeltas(t *testing.T) {
	t.Parallel()
	c := killCluster(t)
	repoDir := t.TempDir()
	store, err := repo.OpenDir(repoDir, nil)
	require.NoError(t, err)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	_, err = backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	c.Exec(t, `insert into in_fast select i, 'later' from generate_series(1, 1000) i`)
	want := pgtest.Checksums(t, c)
	pushAll(t, c, r)

	base := pgtest.Dir(t)
	j := job{Repo: repoDir, Restore: filepath.Join(base, "data"), Tablespaces: map[string]string{"fast": filepath.Join(base, "fast")}, Delta: true}
	j.start(t).wait(t)
	wholeTree := restored(t, j)
	// A server runs on it, and crashes.
	b := pgtest.Boot(t, j.Restore, 0, nil)
	b.Exec(t, `update t set text = 'lost' where i % 100 = 0`, `drop table in_fast`, `create table its_own tablespace fast as select 1 as i`, `checkpoint`)
	b.Kill9(t)
	oldTree := restored(t, j)
	old := filepath.Join(base, "old")
	require.NoError(t, os.Mkdir(old, 0o700))
	copyAll := func(from, to string) {
		out, err := exec.Command("cp", "-a", filepath.Join(from, "data"), filepath.Join(from, "fast"), to).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	copyAll(base, old)

	takes := j.start(t).wait(t)
	require.Equal(t, wholeTree, restored(t, j))
	fresh := true // nothing has been done to what is there
	states := map[string]int{}
	for i, moment := range moments(kills()) {
		if fresh {
			clearAway(t, j)
			copyAll(old, base)
		}
		killed := j.start(t).kill(t, moment, &takes)
		tree := restored(t, j)
		switch control := tree["true/global/pg_control"]; control {
		case "":
			states["half way"]++
			require.True(t, killed)
			require.FileExists(t, filepath.Join(j.Restore, "pgcairn.restore"))
			if states["half way"] <= 2 && exists(filepath.Join(j.Restore, "PG_VERSION")) {
				_, err := pgtest.TryBoot(t, j.Restore, pgtest.Newest(), nil)
				require.Error(t, err)
			}
		case oldTree["true/global/pg_control"]:
			states["not begun"]++
			require.Equal(t, oldTree, tree)
			fresh = true
			continue
		default:
			states["whole"]++
			require.Equal(t, wholeTree, tree)
		}
		if fresh = *soak || i%3 == 2 || i == kills()-1; !fresh {
			continue // the next is killed as well
		}
		takes = (takes + j.start(t).wait(t)) / 2
		require.Equal(t, wholeTree, restored(t, j))
	}
	j.start(t).wait(t) // over whatever the last has left
	require.Equal(t, wholeTree, restored(t, j))
	b = pgtest.Boot(t, j.Restore, 0, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
	require.Positive(t, states["half way"])
	t.Logf("%d delta restores were killed: %v; one takes %v", kills(), states, takes)
}

// clearAway removes what a restore has made.
func clearAway(t *testing.T, j job) {
	t.Helper()
	require.NoError(t, os.RemoveAll(j.Restore))
	require.NoError(t, os.RemoveAll(j.Tablespaces["fast"]))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// restored sums up all files that a restore has made. The mark and where the tablespace is may differ.
func restored(t *testing.T, j job) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, root := range []string{j.Restore, j.Tablespaces["fast"]} {
		require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "pgcairn.restore") {
				return err
			}
			b, err := os.ReadFile(p)
			all[fmt.Sprint(root == j.Restore, strings.TrimPrefix(p, root))] = repo.HashOf(b).String()
			return err
		}))
	}
	return all
}
