package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// walReceiveCommand streams WAL into the archive.
type walReceiveCommand struct {
	server

	Slot            string        `placeholder:"NAME" help:"Physical replication slot, by which the server keeps what is not archived yet."`
	CreateSlot      bool          `help:"Create the slot where there is none."`
	ApplicationName string        `placeholder:"NAME" help:"Name for synchronous_standby_names. Default: that of the DSN, or pgcairn."`
	FlushEvery      time.Duration `default:"1s" placeholder:"D" help:"Ship a segment that is not complete so often; 0s: whenever something has come, for synchronous replication."`
	FlushBytes      int64         `placeholder:"BYTES" help:"Ship earlier when so many bytes wait."`
	SpoolDir        string        `placeholder:"DIR" help:"Where segments of more than 16 MiB are kept until they are complete."`
	AllowGap        bool          `help:"Go on after a gap where the server has removed WAL that is not archived."`
}

// receivedDoc is what the command prints when it ends.
type receivedDoc struct {
	Timeline wal.Timeline `json:"timeline"`
	Received wal.LSN      `json:"received_lsn"`
	Durable  wal.LSN      `json:"durable_lsn"`
	Segments int          `json:"segments"`
}

// Run runs the command, until a signal, which is success.
func (c *walReceiveCommand) Run(ctx context.Context, a *app) error {
	if c.CreateSlot && c.Slot == "" {
		return usage("--create-slot needs --slot")
	}
	if c.FlushEvery < 0 || c.FlushBytes < 0 {
		return usage("--flush-every and --flush-bytes cannot be negative")
	}
	if err := a.onlyOne("wal receive"); err != nil {
		return err
	}
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	every := c.FlushEvery
	if every == 0 {
		every = -1
	}
	var last wal.ReceiveProgress
	err = archive.Receive(ctx, c.DSN, &wal.ReceiveOptions{
		Slot: c.Slot, CreateSlot: c.CreateSlot, ApplicationName: c.ApplicationName, FlushEvery: every, FlushBytes: c.FlushBytes,
		SpoolDir: c.SpoolDir, AllowGap: c.AllowGap, Progress: func(p wal.ReceiveProgress) { last = p },
	})
	if err != nil {
		return err
	}
	doc := receivedDoc{Timeline: last.Timeline, Received: last.Received, Durable: last.Durable, Segments: last.Segments}
	return a.print(doc, func(w *strings.Builder) {
		fmt.Fprintf(w, "received timeline %d up to %s, %d segments; stored up to %s\n", doc.Timeline, doc.Received, doc.Segments, doc.Durable)
	})
}
