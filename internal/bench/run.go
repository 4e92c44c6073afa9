package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// result is what one command took.
type result struct {
	wall, cpu time.Duration
	rss       int64 // of the largest process, in bytes
	out       string
}

// do runs a command as the server's user.
func (b *bench) do(ctx context.Context, name string, args ...string) (result, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "PGHOST=" + b.dir, "PGUSER=postgres", "PGDATABASE=postgres"}
	if b.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.as}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begun := time.Now()
	err := cmd.Run()
	if err != nil {
		return result{}, fmt.Errorf("%s %v: %w\n%s%s", name, args, err, out.String(), errs.String())
	}
	r := result{wall: time.Since(begun), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), out: out.String()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = u.Maxrss << 10
	}
	return r, nil
}

// contender is one of those who take turns.
type contender struct {
	name    string
	prepare func(i int) error
	command func(i int) []string
	check   func() error                          // of what the warm-up has done
	after   func() (cpu time.Duration, err error) // ends, or awaits, what goes on beside the command; its CPU counts
	results []result
}

// race lets contenders take turns, one warm-up and n counted runs each, and prints their medians beside the last's.
func (b *bench) race(ctx context.Context, what string, n int, cs ...*contender) error {
	for i := range n + 1 {
		for _, c := range cs {
			if c.prepare != nil {
				if err := c.prepare(i); err != nil {
					return err
				}
			}
			// What the one before has left to be written must not burden the next.
			syscall.Sync()
			args := c.command(i)
			r, err := b.do(ctx, args[0], args[1:]...)
			if err != nil {
				return err
			}
			if c.after != nil {
				cpu, err := c.after()
				if err != nil {
					return err
				}
				r.cpu += cpu
			}
			if i == 0 && c.check != nil {
				if err := c.check(); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			if i > 0 {
				c.results = append(c.results, r)
			}
		}
	}
	fmt.Printf("\n%-34s %10s %8s %10s %10s\n", what, "wall", "ratio", "CPU", "peak RSS")
	peer := cs[len(cs)-1].median(func(r result) float64 { return r.wall.Seconds() })
	for _, c := range cs {
		wall := c.median(func(r result) float64 { return r.wall.Seconds() })
		cpu := c.median(func(r result) float64 { return r.cpu.Seconds() })
		rss := c.median(func(r result) float64 { return float64(r.rss) })
		fmt.Printf("  %-32s %8.3f s %8.2f %8.4f s %7.0f MB\n", c.name, wall, wall/peer, cpu, rss/1e6)
	}
	return nil
}

func (c *contender) median(f func(result) float64) float64 {
	var v []float64
	for _, r := range c.results {
		v = append(v, f(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// size is how many bytes the files below a directory have.
func size(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil { // else it has vanished
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// fresh makes an empty directory of the server's user.
func (b *bench) fresh(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if b.as == nil {
		return nil
	}
	return os.Chown(path, int(b.as.Uid), int(b.as.Gid))
}

var errNoOutput = errors.New("unexpected output")
