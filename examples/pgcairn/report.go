package main

import (
	"io"
	"strings"
)

// report prints an error in one line, and a hint in another where something can be done. It returns the error.
func report(w io.Writer, err error) error {
	if err == nil {
		return nil
	}
	text := "pgcairn: " + oneLine(err.Error()) + "\n"
	if h := hintFor(err); h != "" {
		text += "hint: " + h + "\n"
	}
	_, _ = io.WriteString(w, text) // where else could a failure be told
	return err
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
