package main

import (
	"bytes"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")

	for _, p := range []struct {
		name     string
		args     []string
		terminal bool
		bar      bool
		plain    bool
	}{
		{name: "auto on a terminal", terminal: true, bar: true},
		{name: "auto on a pipe"},
		{name: "bar on a pipe", args: []string{"--progress", "bar"}, bar: true},
		{name: "plain on a terminal", args: []string{"--progress", "plain"}, terminal: true, plain: true},
		{name: "none on a terminal", args: []string{"--progress", "none"}, terminal: true},
	} {
		t.Run(p.name+" backup", func(t *testing.T) {
			command := []string{"backup", "--pgdata", c.Data}
			requireProgress(t, near, append(command, p.args...), "backup", p.terminal, p.bar, p.plain)
		})
		t.Run(p.name+" restore", func(t *testing.T) {
			command := []string{"restore", filepath.Join(h.dir, p.name), "--identity", h.identity}
			requireProgress(t, near, append(command, p.args...), "restore", p.terminal, p.bar, p.plain)
		})
	}
}

// The rate, and the time that remains, are shown where they are known.
func TestProgressShowsRateAndRemaining(t *testing.T) {
	for _, c := range []struct {
		progress backup.Progress
		bar      string
		plain    string
	}{
		{backup.Progress{Phase: "start"}, "backup: start ", "backup: start\n"},
		{
			backup.Progress{Phase: "read", ReadBytes: 1 << 30, Total: 3 << 30},
			"backup: read: 1.0 GiB of 3.0 GiB  33% |", "backup: read: 1.0 GiB of 3.0 GiB (33 %)\n",
		},
		{
			backup.Progress{Phase: "read", ReadBytes: 1 << 30, Total: 3 << 30, Rate: 340 << 20, Remaining: 66_023 * time.Millisecond},
			"backup: read: 1.0 GiB of 3.0 GiB, 340.0 MiB/s, 1m6s left  33% |",
			"backup: read: 1.0 GiB of 3.0 GiB (33 %), 340.0 MiB/s, 1m6s left\n",
		},
		{
			backup.Progress{Phase: "stop", ReadBytes: 3 << 30, Total: 3 << 30},
			"backup: stop: 3.0 GiB of 3.0 GiB 100% |", "backup: stop: 3.0 GiB of 3.0 GiB (100 %)\n",
		},
	} {
		var shown bytes.Buffer
		a := &app{screen: &screen{w: &shown}}
		a.common.Progress = "bar"
		a.meter().backup()(c.progress)
		a.screen.done()
		require.Contains(t, shown.String(), c.bar)
		require.NotContains(t, strings.ReplaceAll(shown.String(), "340.0 MiB/s", ""), "/s", "no second opinion")

		shown.Reset()
		a.common.Progress = "plain"
		a.meter().backup()(c.progress)
		require.Equal(t, c.plain, shown.String())
	}
}

// A bar is shown by who has something to show, and by nobody else, who would write into the log.
func TestBarHasNoLifeOfItsOwn(t *testing.T) {
	before := runtime.NumGoroutine()
	a := &app{screen: &screen{w: io.Discard}}
	a.bar()(gauge{phase: "backup: start"})
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
	a.screen.done()
}

// requireProgress runs a command, with stderr a terminal or not, and looks at what is there.
func requireProgress(t *testing.T, h *host, command []string, what string, terminal, bar, plain bool) {
	t.Helper()
	cmd := h.command(t, append(command, "--json")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if terminal {
		shown := make(chan struct{})
		us, them, err := pty.Open()
		require.NoError(t, err)
		defer us.Close()
		require.NoError(t, pty.Setsize(us, &pty.Winsize{Rows: 24, Cols: 100}))
		cmd.Stderr = them
		require.NoError(t, cmd.Start())
		require.NoError(t, them.Close())
		go func() {
			defer close(shown)
			_, _ = io.Copy(&stderr, us) // ends in an error once the program has ended
		}()
		require.NoError(t, cmd.Wait())
		<-shown
	} else {
		require.NoError(t, cmd.Run())
	}
	require.Contains(t, parseJSON(t, stdout.String()), "duration_seconds")
	text := stderr.String()
	switch {
	case bar:
		require.Contains(t, text, what+": ")
		require.Contains(t, text, "%")
		require.Contains(t, text, "\r")
		require.Contains(t, text, "█")
		require.Empty(t, strings.TrimSpace(afterLastClear(text)), "the bar is still there: %q", text)
	case plain:
		require.Contains(t, text, what+": ")
		require.NotContains(t, text, "█")
	default:
		require.Empty(t, text)
	}
}

// afterLastClear returns what stands on a line after it was cleared for the last time.
func afterLastClear(text string) string {
	return text[strings.LastIndexAny(text, "\r\n")+1:]
}
