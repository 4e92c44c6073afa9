package pgwire

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Settings are those of a server that cannot change while its cluster lives, its version aside.
type Settings struct {
	Version        int    // server_version_num
	PageSize       uint32 // in bytes
	RelSegPages    uint32 // pages in a file of a relation
	WALSegmentSize uint32 // in bytes
	Checksums      bool   // pages have checksums
}

// ReadSettings asks for the settings.
func ReadSettings(ctx context.Context, c *pgconn.PgConn) (s Settings, err error) {
	var text [5]string
	for i, name := range []string{"server_version_num", "block_size", "segment_size", "wal_segment_size", "data_checksums"} {
		if text[i], err = Show(ctx, c, name); err != nil {
			return Settings{}, err
		}
	}
	return parseSettings(text[0], text[1], text[2], text[3], text[4])
}

func parseSettings(version, page, segment, walSegment, checksums string) (s Settings, err error) {
	if s.Version, err = strconv.Atoi(version); err != nil {
		return Settings{}, fmt.Errorf("server_version_num is %q", version)
	}
	pageSize, err := strconv.ParseUint(page, 10, 32)
	if err != nil || pageSize < 1<<10 || pageSize > 32<<10 || pageSize&(pageSize-1) != 0 {
		return Settings{}, fmt.Errorf("block_size is %q", page)
	}
	s.PageSize = uint32(pageSize)
	bytes, err := parseBytes(segment)
	pages := bytes / pageSize
	if err != nil || pages == 0 || pages > math.MaxUint32 {
		return Settings{}, fmt.Errorf("segment_size is %q", segment)
	}
	s.RelSegPages = uint32(pages)
	if s.WALSegmentSize, err = parseSize(walSegment); err != nil {
		return Settings{}, err
	}
	s.Checksums = checksums != "off"
	return s, nil
}

// SegmentSize asks for the size of segments in bytes.
func SegmentSize(ctx context.Context, c *pgconn.PgConn) (uint32, error) {
	text, err := Show(ctx, c, "wal_segment_size")
	if err != nil {
		return 0, err
	}
	return parseSize(text)
}

// Show asks for a setting.
func Show(ctx context.Context, c *pgconn.PgConn, name string) (string, error) {
	row, err := oneRow(ctx, c, "SHOW "+name, 1)
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// parseSize parses the size of segments.
func parseSize(s string) (uint32, error) {
	n, err := parseBytes(s)
	if err != nil || n > 1<<31 {
		return 0, fmt.Errorf("wal_segment_size is %q", s)
	}
	return uint32(n), nil
}

// parseBytes parses a size as SHOW prints it: 16MB.
func parseBytes(s string) (uint64, error) {
	for unit, factor := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40} {
		digits, ok := strings.CutSuffix(s, unit)
		n, err := strconv.ParseUint(digits, 10, 22)
		if ok && err == nil && n > 0 {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("a size %q", s)
}
