package pgfile

import "encoding/binary"

// pageHeaderSize is SizeOfPageHeaderData.
const pageHeaderSize = 24

// PageLSN returns the LSN of a page: the end of the last WAL record that changed it.
func PageLSN(page []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(page))<<32 | uint64(binary.LittleEndian.Uint32(page[4:]))
}

// Zero tells whether b has zero bytes only.
func Zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// PageOK tells whether a page matches its checksum, as PageIsVerified of PostgreSQL's bufpage.c does: a new page, all
// zero, is fine. block is the page's number in its relation fork, counted over all its files.
func PageOK(page []byte, block uint32) bool {
	if upper := binary.LittleEndian.Uint16(page[14:]); upper == 0 {
		return Zero(page)
	}
	return PageChecksum(page, block) == binary.LittleEndian.Uint16(page[8:])
}

// The algorithm of PostgreSQL's checksum_impl.h: 32 FNV-1a hashes beside each other, folded into one.
const (
	checksumLanes = 32
	fnvPrime      = 16777619
)

var checksumBase = [checksumLanes]uint32{ //nolint:gochecknoglobals // a constant
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// PageChecksum computes pg_checksum_page. The page's length is a multiple of 128 bytes.
func PageChecksum(page []byte, block uint32) uint16 {
	sums := checksumBase
	// The checksum's own two bytes count as zero.
	first := [4 * checksumLanes]byte(page)
	first[8], first[9] = 0, 0
	checksumRow(&sums, &first)
	for row := page[len(first):]; len(row) >= 4*checksumLanes; row = row[4*checksumLanes:] {
		checksumRow(&sums, (*[4 * checksumLanes]byte)(row))
	}
	var zero [4 * checksumLanes]byte
	checksumRow(&sums, &zero)
	checksumRow(&sums, &zero)
	var fold uint32
	for _, s := range sums {
		fold ^= s
	}
	return uint16((fold^block)%65535 + 1)
}

func checksumRow(sums *[checksumLanes]uint32, row *[4 * checksumLanes]byte) {
	for i := range sums {
		t := sums[i] ^ binary.LittleEndian.Uint32(row[4*i:])
		sums[i] = t*fnvPrime ^ t>>17
	}
}
