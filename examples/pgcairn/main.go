// Command pgcairn is the command line on top of the pgcairn library: it parses, prints and chooses exit codes. What it
// does is done by the library, so it shows how the pieces fit together.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	debug.SetGCPercent(400) // some 100 MB for the commands that live long
	os.Exit(run(os.Args[1:]))
}

// run parses the arguments, runs a command, and returns the exit code.
func run(args []string) (code int) {
	exits := newExits(args)
	if exits.fetch {
		debug.SetTraceback("crash") // Go ends with 2 when it crashes, which is an answer here; a signal is none
		defer func() {
			if p := recover(); p != nil {
				code = exits.code(report(os.Stderr, fmt.Errorf("panic: %v\n%s", p, debug.Stack())))
			}
		}()
	}
	a := &app{stdout: os.Stdout, screen: &screen{w: os.Stderr}}
	var line commandLine
	parser, err := newParser(&line)
	if err != nil {
		return exits.code(report(os.Stderr, err))
	}
	command, err := parser.Parse(args)
	if err != nil {
		return exits.code(report(os.Stderr, &usageError{err}))
	}
	exits.chose(command.Command())
	a.common = line.Common
	a.locations = line.Common.locations(slices.ContainsFunc(command.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == "repo" }))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run(a)
	a.screen.done()
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	return exits.code(report(os.Stderr, err))
}

// forOneSegment saves a command that lives as long as one segment takes the collection of its garbage. Who lives longer,
// having a backlog to clear, gets it back.
func forOneSegment() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20) // from where on it is collected after all
	time.AfterFunc(time.Second, func() {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
	})
}

// newParser makes the parser of the command line. Every flag has an environment variable.
func newParser(line *commandLine) (*kong.Kong, error) {
	return kong.New(line,
		kong.Name("pgcairn"),
		kong.Description("Backup, WAL archive and point-in-time recovery of PostgreSQL."),
		kong.DefaultEnvars("PGCAIRN"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false}),
	)
}
