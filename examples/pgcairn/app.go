package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// app is what every command has at hand.
type app struct {
	common common
	stdout io.Writer
	screen *screen
}

// print prints a command's result on stdout: doc as JSON, or what text writes.
func (a *app) print(doc any, text func(w io.Writer)) error {
	if !a.common.JSON {
		text(a.stdout)
		return nil
	}
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// logger logs on stderr.
func (a *app) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.common.LogLevel)) // the parser has checked it
	return slog.New(slog.NewTextHandler(a.screen, &slog.HandlerOptions{Level: level}))
}
