package repo

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKey is the length in bytes that no key may exceed, which is S3's limit.
const maxKey = 1024

// tempPrefix begins the names of the files that a directory store is still writing. No element of a key begins so, in
// any store: what one store holds can be copied into another.
const tempPrefix = ".pgcairn-tmp-"

// KeyError means that a key or a list prefix is not of the form that [Store] allows, or cannot stand beside the keys
// there are. It matches fs.ErrInvalid.
type KeyError struct {
	Key    string // or prefix
	Reason string
}

func (e *KeyError) Error() string { return fmt.Sprintf("key %q: %s", e.Key, e.Reason) }
func (e *KeyError) Unwrap() error { return fs.ErrInvalid }

// CheckKey returns a *[KeyError] unless key is of the form that [Store] allows. It is for those who write a Store, all
// of whose methods refuse such a key.
func CheckKey(key string) error { return checkKey(key) }

// CheckPrefix is CheckKey for the prefix given to [Store] List. A prefix may be empty and may end in the middle of an
// element; only the elements before its last slash have to be whole ones.
func CheckPrefix(prefix string) error { return checkPrefix(prefix) }

func checkKey(key string) error {
	if reason := badText(key); reason != "" {
		return &KeyError{Key: key, Reason: reason}
	}
	for element := range strings.SplitSeq(key, "/") {
		if reason := badElement(element); reason != "" {
			return &KeyError{Key: key, Reason: reason}
		}
	}
	return nil
}

func checkPrefix(prefix string) error {
	if reason := badText(prefix); reason != "" {
		return &KeyError{Key: prefix, Reason: reason}
	}
	end := strings.LastIndexByte(prefix, '/')
	if end < 0 {
		return nil
	}
	for element := range strings.SplitSeq(prefix[:end], "/") {
		if reason := badElement(element); reason != "" {
			return &KeyError{Key: prefix, Reason: reason}
		}
	}
	return nil
}

// badText tells what is wrong with the characters of a key, if anything.
func badText(key string) string {
	if len(key) > maxKey {
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(key), maxKey)
	}
	if !utf8.ValidString(key) {
		return "is not UTF-8"
	}
	for _, r := range key {
		// A backslash separates folders elsewhere, and azureblob rewrites it.
		if r == '\\' || !unicode.IsPrint(r) {
			return fmt.Sprintf("holds the character %q", r)
		}
	}
	return ""
}

// badElement tells what is wrong with one element of a key, if anything.
func badElement(element string) string {
	switch {
	case element == "":
		return "has an empty element"
	case element == "." || element == "..":
		return fmt.Sprintf("has an element %q", element)
	case strings.HasPrefix(element, tempPrefix):
		return "has an element that begins with " + tempPrefix + ", the mark of an unfinished file"
	}
	return ""
}
