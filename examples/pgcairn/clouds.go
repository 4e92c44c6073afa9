//go:build cloud

package main

// The object stores that --repo knows besides directories.
import (
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)

// runCompanion does nothing: this is the companion.
func runCompanion() error { return nil }
