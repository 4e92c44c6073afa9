package bucket_test

import (
	"context"
	"fmt"
	"io"

	"gocloud.dev/blob/memblob"

	"github.com/pgcairn/pgcairn/repo/bucket"
)

// A program that keeps its backups on S3 opens the bucket with s3blob, or with blob.OpenBucket and a blank import of it.
func ExampleNew() {
	ctx := context.Background()
	b := memblob.OpenBucket(nil)
	defer b.Close()

	s := bucket.New(b, &bucket.Options{Prefix: "prod/cluster-1"})
	w, err := s.Create(ctx, "notes/first")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	if _, err := io.WriteString(w, "a cairn marks the way back"); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := w.Commit(); err != nil {
		fmt.Println(err)
		return
	}
	for info, err := range s.List(ctx, "notes/") {
		fmt.Println(info.Key, info.Size, err)
	}
	there, err := b.Exists(ctx, "prod/cluster-1/notes/first")
	fmt.Println(there, err)
	// Output:
	// notes/first 26 <nil>
	// true <nil>
}
