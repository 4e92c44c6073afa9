package main

import (
	"fmt"
	"io"
	"strings"
)

// report prints an error in one line, and a hint in another where something can be done. It returns the error.
func report(w io.Writer, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintf(w, "pgcairn: %s\n", oneLine(err.Error()))
	if h := hintFor(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
	return err
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
