package pgfile

import "encoding/binary"

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
	checksumRow   = 4 * checksumLanes // bytes: four for each lane
	fnvPrime      = 16777619
)

var checksumBase = [checksumLanes]uint32{ //nolint:gochecknoglobals // a constant
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// PageChecksum computes pg_checksum_page. The page's length is a power of two from 1 KiB, as PostgreSQL's are.
func PageChecksum(page []byte, block uint32) uint16 {
	// The checksum's own two bytes count as zero.
	first := [checksumRow]byte(page)
	first[8], first[9] = 0, 0
	var fold uint32
	for lane := 0; lane < checksumLanes; lane += 8 {
		fold ^= foldEight((*[8]uint32)(checksumBase[lane:]), first[4*lane:], page[checksumRow+4*lane:])
	}
	return uint16((fold^block)%65535 + 1)
}

// foldEight folds eight lanes, as many as the registers hold: going down the page four times is faster than once with
// the sums in memory. first and rest begin at the first of the lanes; rest are the rows after the first.
func foldEight(base *[8]uint32, first, rest []byte) uint32 {
	a, b, c, d, e, f, g, h := base[0], base[1], base[2], base[3], base[4], base[5], base[6], base[7]
	for row := first; len(row) >= 32; row, rest = rest, rest[min(checksumRow, len(rest)):] {
		r := (*[32]byte)(row)
		a = mix(a, binary.LittleEndian.Uint32(r[0:]))
		b = mix(b, binary.LittleEndian.Uint32(r[4:]))
		c = mix(c, binary.LittleEndian.Uint32(r[8:]))
		d = mix(d, binary.LittleEndian.Uint32(r[12:]))
		e = mix(e, binary.LittleEndian.Uint32(r[16:]))
		f = mix(f, binary.LittleEndian.Uint32(r[20:]))
		g = mix(g, binary.LittleEndian.Uint32(r[24:]))
		h = mix(h, binary.LittleEndian.Uint32(r[28:]))
	}
	var fold uint32
	for _, sum := range [...]uint32{a, b, c, d, e, f, g, h} {
		fold ^= mix(mix(sum, 0), 0) // two rows of zeros end the page
	}
	return fold
}

func mix(sum, word uint32) uint32 {
	t := sum ^ word
	return t*fnvPrime ^ t>>17
}
