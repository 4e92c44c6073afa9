package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// clients pushes and fetches by way of a program that serves, where the work is done; what is measured is the client.
func (b *bench) clients(ctx context.Context) error {
	if _, err := b.do(ctx, b.cairn, b.ours("served", "init")...); err != nil {
		return err
	}
	if err := b.fresh(b.path("pg_wal")); err != nil {
		return err
	}
	socket := b.path("socket")
	stop, err := b.serve(ctx, "served", socket)
	if err != nil {
		return err
	}
	dst := b.path("pg_wal", "RECOVERYXLOG")
	err = b.race(ctx, "a client of wal serve", b.segments,
		&contender{name: "wal push", command: func(i int) []string {
			return []string{b.cairn, "wal", "push", "--socket", socket, b.path("data", "pg_wal", b.names[i])}
		}},
		&contender{name: "wal fetch", prepare: func(int) error { return remove(dst) }, command: func(i int) []string {
			return []string{b.cairn, "wal", "fetch", "--socket", socket, b.names[i], dst}
		}},
		&contender{name: "true", command: func(int) []string { return []string{"true"} }},
	)
	_, stopped := stop()
	return errors.Join(err, stopped)
}

// serve starts the program that clients go to, for one of the repositories.
func (b *bench) serve(ctx context.Context, repo, socket string, args ...string) (stop func() (cpu time.Duration, err error), err error) {
	cmd := exec.CommandContext(ctx, b.cairn, b.ours(repo, append([]string{"wal", "serve", socket}, args...)...)...)
	cmd.Dir, cmd.Stderr = b.dir, os.Stderr
	if b.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.as}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() (time.Duration, error) {
		err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
	}
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	_, err = stop()
	return nil, errors.Join(errors.New("nobody serves "+socket), err)
}
