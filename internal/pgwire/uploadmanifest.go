package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
)

// UploadManifest gives the server the backup_manifest of the backup that the next one on this connection is to be
// incremental to. Before PostgreSQL 17 it is errors.ErrUnsupported. What the server refuses, and an error of r, leave the
// connection usable; a Read of r that does not return keeps UploadManifest from returning.
func UploadManifest(ctx context.Context, c *pgconn.PgConn, r io.Reader) error {
	if major(c.ParameterStatus("server_version")) < 17 {
		return fmt.Errorf("UPLOAD_MANIFEST: %w before PostgreSQL 17", errors.ErrUnsupported)
	}
	source := &observedReader{r: r}
	_, err := c.CopyFrom(ctx, source, "UPLOAD_MANIFEST")
	if source.err != nil {
		err = source.err // and not that the server was told so
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("UPLOAD_MANIFEST: %w", err)
	}
	return nil
}

// observedReader remembers the error of a reader.
type observedReader struct {
	r   io.Reader
	err error
}

func (r *observedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
