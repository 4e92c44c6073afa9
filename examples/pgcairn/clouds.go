//go:build !nocloud

package main

// The object stores that --repo knows. Their SDKs cost each start of the program some milliseconds and 50 MB of disk;
// whoever keeps repositories in directories only may build with -tags nocloud.
import (
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)
