package pgtest

import (
	"context"
	"log/slog"
	"strings"
)

// OnLog returns a logger that does something whenever it is told what begins with a text.
func OnLog(begin string, what func()) *slog.Logger {
	return slog.New(onLog{slog.DiscardHandler, begin, what})
}

type onLog struct {
	slog.Handler
	begin string
	what  func()
}

func (h onLog) Enabled(context.Context, slog.Level) bool { return true }

func (h onLog) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, h.begin) {
		h.what()
	}
	return nil
}
