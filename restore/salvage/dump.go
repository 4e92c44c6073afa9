package salvage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const pgDump = "pg_dump"

// dumpDelay is how long pg_dump may take to end once it was told to.
const dumpDelay = 10 * time.Second

// dump writes the tables to w, by the pg_dump that is beside the server.
func dump(ctx context.Context, conn *pgx.Conn, tables []Table, w io.Writer) error {
	var dir string
	if err := conn.QueryRow(ctx, `select setting from pg_config where name = 'BINDIR'`).Scan(&dir); err != nil {
		return err
	}
	args := []string{"--format=custom", "--strict-names", "--no-password"}
	for _, t := range tables {
		args = append(args, "--table="+t.String()) // what is quoted is no pattern
	}
	config := conn.Config()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, pgDump), args...)
	cmd.Dir, cmd.WaitDelay = "/", dumpDelay
	out := &noting{w: w}
	cmd.Stdout, cmd.Stderr = out, &said
	if file, ok := w.(*os.File); ok {
		cmd.Stdout = file
	}
	// Where to connect to is said in full, and by nothing else. Settings of the database or the role do not count.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") })
	cmd.Env = append(cmd.Env, "LC_ALL=C",
		"PGHOST="+config.Host, "PGPORT="+strconv.FormatUint(uint64(config.Port), 10), "PGUSER="+config.User, "PGDATABASE="+config.Database,
		"PGOPTIONS=-c session_preload_libraries= -c local_preload_libraries= -c default_transaction_read_only=off")
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if out.err != nil {
			return fmt.Errorf("write the dump: %w", out.err)
		}
		return fmt.Errorf("%s: %w", pgDump, errors.Join(err, errorOf(said.String())))
	}
	return nil
}

// noting notes why its writer failed, which the end of pg_dump's pipe does not tell.
type noting struct {
	w   io.Writer
	err error
}

func (n *noting) Write(p []byte) (int, error) {
	written, err := n.w.Write(p)
	if err != nil {
		n.err = err
	}
	return written, err
}

// errorOf is what pg_dump said, or nil.
func errorOf(said string) error {
	if said = strings.TrimSpace(said); said == "" {
		return nil
	}
	return errors.New(said)
}
