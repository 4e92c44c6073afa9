package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWrongUsage(t *testing.T) {
	h := newHost(t)
	pgdata := []string{"backup", "--pgdata", "/nonexistent"}
	for _, c := range []struct {
		name    string
		args    []string
		env     string
		problem string
	}{
		{"no command", nil, "", "expected one of"},
		{"unknown command", []string{"frobnicate"}, "", "frobnicate"},
		{"unknown flag", []string{"list", "--frobnicate"}, "", "--frobnicate"},
		{"half a command", []string{"wal"}, "", "expected one of"},
		{"missing argument", []string{"show"}, "", "<id>"},
		{"missing argument of push", []string{"wal", "push"}, "", "<path>"},
		{"one argument too many", []string{"wal", "push", "a", "b"}, "", "unexpected argument b"},
		{"no repository", []string{"list", "--repo", ""}, "", "no repository given"},
		{"unknown scheme", []string{"list", "--repo", "ftp://host/x"}, "", `unknown scheme "ftp"`},
		{"file URL with a host", []string{"list", "--repo", "file://host/x"}, "", "absolute path"},
		{"file URL with a parameter", []string{"list", "--repo", "file:///x?no_tmp_dir=1"}, "", "no_tmp_dir"},
		{"malformed URL", []string{"list", "--repo", "s3://[x"}, "", "--repo"},
		{"malformed recipient", []string{"init", "--recipient", "age1nonsense"}, "", "age1nonsense"},
		{"bad choice", []string{"list", "--progress", "dots"}, "", "--progress"},
		{"bad choice in the environment", []string{"list"}, "PGCAIRN_LOG_LEVEL=loud", "loud"},
		{"not an ID", []string{"show", "yesterday"}, "", `"yesterday" is not the ID of a backup`},
		{"source dir without pgdata", []string{"backup", "--source", "dir"}, "", "--pgdata"},
		{"type unknown", append(pgdata, "--type", "huge"), "", "--type"},
		{"unknown compression", append(pgdata, "--compression", "lz4"), "", "--compression"},
		{"upgraded from a name", append(pgdata, "--upgraded-from", "main"), "", "--upgraded-from"},
		{"negative rate", append(pgdata, "--rate=-1"), "", "--rate"},
		{"negative jobs", append(pgdata, "--jobs=-1"), "", "--jobs"},
		{"label without a value", append(pgdata, "--label", "k"), "", "--label"},
		{"two targets", []string{"plan", "--to-lsn", "0/1", "--to-xid", "7"}, "", "can't be used together"},
		{"time without a zone", []string{"plan", "--to-time", "2026-11-21 10:00:00"}, "", "zone"},
		{"malformed LSN", []string{"plan", "--to-lsn", "12"}, "", "--to-lsn"},
		{"exclusive of nothing", []string{"plan", "--exclusive"}, "", "--exclusive needs"},
		{"exclusive of a restore point", []string{"plan", "--to-name", "x", "--exclusive"}, "", "--exclusive needs"},
		{"timeline", []string{"plan", "--timeline", "newest"}, "", "--timeline"},
		{"timeline zero", []string{"plan", "--timeline", "0"}, "", "--timeline"},
		{"forced backup", []string{"plan", "--backup", "x"}, "", "not the ID of a backup"},
		{"timeout that is none", []string{"wal", "push", "x", "--timeout", "soon"}, "", "--timeout"},
		{"negative timeout", []string{"wal", "push", "x", "--timeout=-1s"}, "", "--timeout"},
		{"negative jobs of push", []string{"wal", "push", "x", "--jobs=-1"}, "", "--jobs"},
		{"serve without a socket", []string{"wal", "serve"}, "", "<path>"},
		{"serve with a negative prefetch", []string{"wal", "serve", "x", "--prefetch=-1"}, "", "--prefetch"},
		{"restore without a directory", []string{"restore"}, "", "<dir>"},
		{"a primary without a standby", []string{"restore", "x", "--primary-conninfo", "host=p"}, "", "for --standby"},
		{"a standby with a target", []string{"restore", "x", "--standby", "--to-xid", "7"}, "", "until it is promoted"},
		{"a standby with an action", []string{"restore", "x", "--standby", "--action", "pause"}, "", "no --action"},
		{"drill to two targets", []string{"drill", "--to-xid", "7", "--random", "moment"}, "", "--random chooses"},
		{"drill of a random backup, given", []string{"drill", "--random", "moment", "--timeline", "2"}, "", "--random chooses"},
		{"drill of a random mood", []string{"drill", "--random", "mood"}, "", "--random"},
		{"salvage without a schema", []string{"salvage", "shop", "orders", "--output", "x"}, "", "SCHEMA.TABLE"},
		{"salvage to nowhere", []string{"salvage", "shop", "public.orders"}, "", "--output"},
		{"drill by magic", []string{"drill", "--amcheck", "magic"}, "", "--amcheck"},
		{"restore over what is there, and no delta", []string{"restore", "x", "--overwrite"}, "", "--overwrite needs --delta"},
		{"restore by magic", []string{"restore", "x", "--wal", "magic"}, "", "--wal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := h
			if c.env != "" {
				host = h.with(c.env)
			}
			host.run(t, c.args...).requireFailure(t, 2, c.problem, "")
		})
	}
}

func TestEveryFlagHasAVariable(t *testing.T) {
	var line commandLine
	parser, err := newParser(&line)
	require.NoError(t, err)
	want := map[string]string{
		"repo": "PGCAIRN_REPO", "recipient": "PGCAIRN_RECIPIENTS", "identity": "PGCAIRN_IDENTITY",
		"state-dir": "PGCAIRN_STATE_DIR", "log-level": "PGCAIRN_LOG_LEVEL",
	}
	for _, node := range parser.Model.Leaves(false) {
		for _, group := range node.AllFlags(false) {
			for _, f := range group {
				if f.Name == "help" {
					continue
				}
				name := want[f.Name]
				if name == "" {
					name = "PGCAIRN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
				}
				require.Equal(t, []string{name}, f.Envs, "%s --%s", node.Path(), f.Name)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	h := newHost(t)
	require.Contains(t, h.ok(t, "--help"), "wal fetch")
	require.Contains(t, h.ok(t, "wal", "fetch", "--help"), "PGCAIRN_REPO")
}

func TestVersion(t *testing.T) {
	h := newHost(t)
	requireKeys(t, h.json(t, "version"), "version", "format", "go")
	require.Contains(t, h.ok(t, "version"), "repository format 1")
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	for _, flags := range [][]string{nil, {"--json"}} {
		cmd := newHost(t).command(t, append([]string{"key", "generate"}, flags...)...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = full, &stderr
		require.Error(t, cmd.Run())
		outcome{code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}.requireFailure(t, 1, "no space left", "disk is full")
	}
}
