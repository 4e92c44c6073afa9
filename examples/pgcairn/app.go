package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// app is what every command has at hand.
type app struct {
	common    common
	locations []string // of the repositories, the first of which is where most commands look
	stdout    io.Writer
	screen    *screen
}

// print prints a command's result on stdout: doc as JSON, or what text writes; nil writes nothing.
func (a *app) print(doc any, text func(*strings.Builder)) error {
	var b strings.Builder
	switch {
	case a.common.JSON:
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(doc); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	case text != nil:
		text(&b)
	}
	if b.Len() == 0 {
		return nil
	}
	if _, err := io.WriteString(a.stdout, b.String()); err != nil {
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
