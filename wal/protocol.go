package wal

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// The protocol between [Client] and [Serve], over a Unix socket: one request a connection. The client sends a line of
// JSON and, beside its first byte, one open file (SCM_RIGHTS): the one to archive, or an empty one to fill. The server
// answers with a line of JSON. Closing the connection before that calls the request off. A client that would rather take
// what was fetched ahead may be answered with the path of that, to rename; where it cannot, it asks once more.
const (
	protocolVersion = 1
	maxLine         = 32 << 10 // bytes of a line
	maxText         = 8 << 10  // bytes of an error's text
)

// request is what a client asks for.
type request struct {
	Version int    `json:"version"`
	Do      string `json:"do"` // "push" or "fetch"
	Name    string `json:"name"`
	// System is the system identifier of the cluster of the client's file, where the client knows.
	System uint64 `json:"system,omitempty,string"`
	Take   bool   `json:"take,omitempty"` // the path of what was fetched ahead will do
}

// answer is what the server says.
type answer struct {
	Version int        `json:"version"`
	OK      bool       `json:"ok"`
	Size    int64      `json:"size,omitempty"` // bytes of the file that was filled
	Path    string     `json:"path,omitempty"` // of a file to take instead
	Error   *wireError `json:"error,omitempty"`
}

// wireError is an error on its way. Kind tells which of the fields are of use.
type wireError struct {
	Kind     string `json:"kind"`
	Text     string `json:"text"`
	Name     string `json:"name,omitempty"`
	Archived string `json:"archived,omitempty"`
	Offered  string `json:"offered,omitempty"`
	Got      uint64 `json:"got,omitempty,string"`
	Want     uint64 `json:"want,omitempty,string"`
	Earlier  bool   `json:"earlier,omitempty"`
}

// ServerError is an error that a program behind a socket answered with and that has no type of its own here.
type ServerError struct {
	Text string // of the error there
}

func (e *ServerError) Error() string { return e.Text }

// missingError is the archive's answer, by way of a server, that it does not hold a file.
type missingError struct{ text string }

func (e *missingError) Error() string        { return e.text }
func (e *missingError) Is(target error) bool { return target == fs.ErrNotExist }

func parseRequest(line []byte) (request, Name, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return r, Name{}, fmt.Errorf("wal: not a request: %w", err)
	}
	if r.Version != protocolVersion {
		return r, Name{}, fmt.Errorf("wal: a request of protocol version %d, this server speaks version %d", r.Version, protocolVersion)
	}
	if r.Do != "push" && r.Do != "fetch" {
		return r, Name{}, fmt.Errorf("wal: a request to %q", r.Do)
	}
	n, err := ParseName(r.Name)
	return r, n, err
}

// answerOf makes the answer to a request to do something: done, or why not.
func answerOf(do string, done answer, err error) answer {
	if err == nil {
		done.Version, done.OK = protocolVersion, true
		return done
	}
	e := &wireError{Kind: "other", Text: strings.ToValidUTF8(cutText(err.Error()), "")}
	var conflict *ConflictError
	var foreign *ForeignError
	var segment *SegmentError
	var name *NameError
	var corrupt *repo.CorruptError
	switch {
	case do == "fetch" && errors.Is(err, fs.ErrNotExist):
		e.Kind = "missing"
	case errors.As(err, &conflict):
		e.Kind, e.Name = "conflict", conflict.Name
		e.Archived, e.Offered = hex.EncodeToString(conflict.Archived[:]), hex.EncodeToString(conflict.Offered[:])
	case errors.As(err, &foreign):
		e.Kind, e.Name, e.Got, e.Want, e.Earlier = "foreign", foreign.Name, foreign.Got, foreign.Want, foreign.Earlier
	case errors.As(err, &segment) && segment.Err != nil:
		e.Kind, e.Name, e.Text = "segment", segment.Name, cutText(segment.Err.Error())
	case errors.As(err, &name):
		e.Kind, e.Name, e.Text = "name", cutText(name.Name), cutText(name.Reason)
	case errors.As(err, &corrupt) && corrupt.Err != nil:
		e.Kind, e.Name, e.Text = "corrupt", cutText(corrupt.Key), cutText(corrupt.Err.Error())
	}
	return answer{Version: protocolVersion, Error: e}
}

// encodeAnswer returns the line of an answer.
func encodeAnswer(a answer) []byte {
	line, err := json.Marshal(a)
	if err != nil || len(line) >= maxLine {
		line, _ = json.Marshal(answer{Version: protocolVersion, Error: &wireError{Kind: "other", Text: "an error too long to tell"}}) // plain fields
	}
	return append(line, '\n')
}

func cutText(s string) string { return s[:min(len(s), maxText)] }

// parseAnswer returns the answer, or the error, that a line tells of. An error matches fs.ErrNotExist only when the line
// says so.
func parseAnswer(do string, line []byte) (a answer, err error) {
	if err := json.Unmarshal(line, &a); err != nil {
		return answer{}, fmt.Errorf("wal: not an answer: %w", err)
	}
	switch {
	case a.Version != protocolVersion:
		return answer{}, fmt.Errorf("wal: an answer of protocol version %d, want %d", a.Version, protocolVersion)
	case a.OK && a.Error == nil && a.Size >= 0:
		return a, nil
	case a.OK || a.Error == nil:
		return answer{}, errors.New("wal: an answer that contradicts itself")
	}
	return answer{}, a.Error.typed(do)
}

// typed makes the error what it was on the other side, as far as it can.
func (e *wireError) typed(do string) error {
	switch e.Kind {
	case "missing":
		if do == "fetch" {
			return &missingError{e.Text}
		}
	case "conflict":
		c := &ConflictError{Name: e.Name}
		if parseDigest(e.Archived, &c.Archived) && parseDigest(e.Offered, &c.Offered) {
			return c
		}
	case "foreign":
		return &ForeignError{Name: e.Name, Got: e.Got, Want: e.Want, Earlier: e.Earlier}
	case "segment":
		return &SegmentError{Name: e.Name, Err: errors.New(e.Text)}
	case "name":
		return &NameError{Name: e.Name, Reason: e.Text}
	case "corrupt":
		return &repo.CorruptError{Key: e.Name, Err: errors.New(e.Text)}
	}
	return &ServerError{Text: e.Text}
}

func parseDigest(s string, d *[32]byte) bool {
	b, err := hex.DecodeString(s)
	return err == nil && copy(d[:], b) == len(d) && len(b) == len(d)
}
