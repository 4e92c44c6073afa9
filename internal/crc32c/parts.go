// Package crc32c computes the CRC-32C of what comes in parts, in any order.
package crc32c

import "hash/crc32"

// castagnoli is the table that hash/crc32 has a fast implementation for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant

// Part returns what a part of a file contributes to its checksum, where so many bytes of the file come after the part.
// The contributions of all parts are combined by exclusive or; bytes that are zero contribute nothing.
//
// A CRC is the remainder of a polynomial that has the file's bits for coefficients. Those of a sum are the sum of those of
// its terms, and the term of a part is the part, shifted by what comes after it.
func Part(part []byte, after int64) uint32 {
	return shift(^crc32.Update(^uint32(0), castagnoli, part), after) // without the inversions, which are not linear
}

// Sum returns the checksum of a file of a size, in bytes, from the contributions of its parts.
func Sum(parts uint32, size int64) uint32 { return ^(parts ^ shift(^uint32(0), size)) }

// shift returns the remainder of a polynomial times x to the power of 8n. The highest bit is the coefficient of 1.
func shift(a uint32, n int64) uint32 {
	for i := 0; n != 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			a = multiply(a, powers[i])
		}
	}
	return a
}

// powers are the remainders of x to the powers of 8, 16, 32 and so on.
var powers = func() (all [63]uint32) { //nolint:gochecknoglobals // a constant
	all[0] = 1 << (31 - 8)
	for i := 1; i < len(all); i++ {
		all[i] = multiply(all[i-1], all[i-1])
	}
	return all
}()

// multiply returns the remainder of the product of two polynomials.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		if b&1 == 0 {
			b >>= 1
		} else {
			b = b>>1 ^ crc32.Castagnoli
		}
	}
	return product
}
