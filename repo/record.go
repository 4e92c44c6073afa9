package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// maxRecord bounds a record in bytes.
const maxRecord = 64 << 10

// CreateRecord creates a record: a small object of JSON with a checksum, which is never encrypted, so that a host that
// can only write knows it as well. A taken key is an error matching fs.ErrExist.
func (r *Repo) CreateRecord(ctx context.Context, key string, v any) error {
	return createRecord(ctx, r.store, key, v)
}

// ReadRecord reads a record into v. A missing one is an error matching fs.ErrNotExist. Nothing secret belongs in a
// record, and whoever can write to the store can write records: what they say is not to be trusted with secrets.
func (r *Repo) ReadRecord(ctx context.Context, key string, v any) error {
	b, err := readSmall(ctx, r.store, key, maxRecord)
	if err != nil {
		return err
	}
	return OpenRecord(key, b, v)
}

func createRecord(ctx context.Context, s Store, key string, v any) error {
	b, err := SealRecord(key, v)
	if err != nil {
		return fmt.Errorf("repo: encode %s: %w", key, err)
	}
	return writeSmall(ctx, s, key, b)
}

// SealRecord encodes v, a struct with members, as a line of JSON of at most 64 KiB, whose last member is a checksum over
// the key of the object it stands in and all before it.
func SealRecord(key string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) < len(`{"":0}`) || b[0] != '{' {
		return nil, fmt.Errorf("%T is not a JSON object with members", v)
	}
	b = b[:len(b)-1] // the closing brace
	b = fmt.Appendf(b, ",\"sum\":%q}\n", jsonSum(key, b))
	if len(b) > maxRecord {
		return nil, fmt.Errorf("a record of %d bytes, at most %d are allowed", len(b), maxRecord)
	}
	return b, nil
}

// OpenRecord is the reverse of [SealRecord] for the object under key. What does not match is a *[CorruptError].
func OpenRecord(key string, b []byte, v any) error {
	i := bytes.LastIndex(b, []byte(`,"sum":"`))
	if i < 0 {
		return corrupt(key, "no checksum")
	}
	if want := fmt.Sprintf(",\"sum\":%q}\n", jsonSum(key, b[:i])); string(b[i:]) != want {
		return corrupt(key, "checksum mismatch")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return corrupt(key, "%w", err)
	}
	return nil
}

func jsonSum(key string, b []byte) string {
	h := xxh3.New128()
	_, _ = h.WriteString(key + "\n")
	_, _ = h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// readSmall reads a whole small object of at most limit bytes.
func readSmall(ctx context.Context, s Store, key string, limit int) ([]byte, error) {
	body, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("repo: read %s: %w", key, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("repo: read %s: %w", key, err)
	}
	if len(b) > limit {
		return nil, corrupt(key, "larger than %d bytes", limit)
	}
	return b, nil
}

// writeSmall creates a small object.
func writeSmall(ctx context.Context, s Store, key string, b []byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return fmt.Errorf("repo: create %s: %w", key, err)
	}
	defer w.Close()
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("repo: write %s: %w", key, err)
	}
	if _, err := w.Commit(); err != nil {
		return fmt.Errorf("repo: commit %s: %w", key, err)
	}
	return nil
}
