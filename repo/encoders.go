package repo

import (
	"fmt"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// maxOverhead is how many bytes more than its content a frame is at most, whatever the compression, and has room for
// what an encoder takes before it finds out.
const maxOverhead = 256

// encoders compress frames, for all packs and streams of a Repo. However many of these there are, there are as many
// zstd encoders as were in use at one time, and no more than processors: further callers wait, which costs nothing, as
// the processors are busy. So a host of many processors does not pay for encoders that its jobs never use.
type encoders map[Compression]*encoderPool

// encoderPool holds the zstd encoders of one level.
type encoderPool struct {
	level zstd.EncoderLevel
	turns chan struct{} // holds one for each caller who may use an encoder
	idle  chan *zstd.Encoder
}

func newEncoders() encoders {
	n := runtime.GOMAXPROCS(0)
	all := encoders{}
	for c, level := range map[Compression]zstd.EncoderLevel{
		ZstdFastest: zstd.SpeedFastest, Zstd: zstd.SpeedDefault, ZstdBetter: zstd.SpeedBetterCompression,
	} {
		all[c] = &encoderPool{level: level, turns: make(chan struct{}, n), idle: make(chan *zstd.Encoder, n)}
	}
	return all
}

// compress appends 1 to FrameSize bytes to dst as a frame. It may be called by many at once.
func (e encoders) compress(c Compression, dst, raw []byte) ([]byte, error) {
	switch c {
	case "":
		c = ZstdFastest
	case S2:
		return appendS2(dst, raw), nil
	case Uncompressed:
		return appendRawFrame(dst, raw), nil
	}
	pool := e[c]
	if pool == nil {
		return dst, fmt.Errorf("unknown compression %q", string(c))
	}
	return pool.compress(dst, raw)
}

func (p *encoderPool) compress(dst, raw []byte) (_ []byte, err error) {
	p.turns <- struct{}{}
	defer func() { <-p.turns }()
	var enc *zstd.Encoder
	select {
	case enc = <-p.idle:
	default:
		if enc, err = newEncoder(p.level); err != nil {
			return dst, err
		}
	}
	at := len(dst)
	dst = enc.EncodeAll(raw, dst)
	p.idle <- enc
	if len(dst)-at > rawFrameSize(len(raw)) {
		dst = appendRawFrame(dst[:at], raw) // it does not shrink
	}
	return dst, nil
}

// newEncoder makes a zstd encoder for frames, to be used by one goroutine at a time through EncodeAll.
func newEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithWindowSize(FrameSize), // first, or the level halves the size of blocks, each of which has tables of its own
		zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
	)
}
