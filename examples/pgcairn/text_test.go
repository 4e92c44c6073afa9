package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 16 << 20: "16.0 MiB", 3 << 29: "1.5 GiB", 5 << 40: "5.0 TiB", math.MaxInt64: "8192.0 PiB",
	} {
		require.Equal(t, want, size(n))
	}
}
