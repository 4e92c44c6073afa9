package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/pgcairn/pgcairn/wal"
)

// walServeCommand serves other processes of this host, as a program that embeds the library would.
type walServeCommand struct {
	PGData   string `name:"pgdata" placeholder:"DIR" help:"Data directory whose backlog is archived with the file that is asked for."`
	Prefetch int    `placeholder:"N" help:"Fetch so many segments ahead of recovery, to the state directory."`
	Path     string `arg:"" help:"Unix socket to make. Whoever can connect can archive and fetch: it is made for this user only."`
}

// Run runs the command, until a signal, which is success.
func (c *walServeCommand) Run(ctx context.Context, a *app) error {
	if c.Prefetch < 0 {
		return usage("--prefetch cannot be negative")
	}
	if err := a.onlyOne("wal serve"); err != nil {
		return err
	}
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	o := &wal.ServeOptions{PGData: c.PGData}
	if c.Prefetch > 0 {
		if o.Prefetch, err = archive.Prefetch(&wal.PrefetchOptions{Segments: c.Prefetch}); err != nil {
			return err
		}
		defer o.Prefetch.Close()
	}
	l, err := listen(ctx, c.Path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.Path, err)
	}
	return wal.Serve(ctx, l, archive, o)
}

// listen makes a socket for this user only, in the place of one that nobody listens on any more.
func listen(ctx context.Context, path string) (net.Listener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	var d net.Dialer
	if conn, dialErr := d.DialContext(ctx, "unix", path); !errors.Is(dialErr, syscall.ECONNREFUSED) {
		if dialErr == nil {
			_ = conn.Close()
		}
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return config.Listen(ctx, "unix", path)
}
