package backup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/pgcairn/pgcairn/repo"
)

// pieceList is the pieces of a frame as a manifest has them: a list of [file, offset, length], or of [length] for those of
// no file. Most of a manifest is such lists, so they are read and written here rather than number by number by
// encoding/json.
type pieceList []Piece

// MarshalJSON implements json.Marshaler.
func (l pieceList) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 2+24*len(l))
	b = append(b, '[')
	for i, p := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.appendJSON(b)
	}
	return append(b, ']'), nil
}

func (p Piece) appendJSON(b []byte) []byte {
	b = append(b, '[')
	if p.File != NoFile {
		b = append(strconv.AppendInt(b, int64(p.File), 10), ',')
		b = append(strconv.AppendInt(b, p.Offset, 10), ',')
	}
	return append(strconv.AppendInt(b, int64(p.Length), 10), ']')
}

// MarshalJSON writes [file, offset, length], or [length] for those of no file.
func (p Piece) MarshalJSON() ([]byte, error) { return p.appendJSON(nil), nil }

// UnmarshalJSON is the reverse of MarshalJSON.
func (p *Piece) UnmarshalJSON(b []byte) error {
	var l pieceList
	if err := l.UnmarshalJSON(slices.Concat([]byte{'['}, b, []byte{']'})); err != nil {
		return err
	}
	if len(l) != 1 {
		return errPieces
	}
	*p = l[0]
	return nil
}

// UnmarshalJSON is the reverse of MarshalJSON.
func (l *pieceList) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	list := make([]Piece, 0, min(bytes.Count(b, []byte{'['}), len(b)/len("[1],")))
	in := numberLists{b: b}
	err := in.each(func() error {
		from := len(in.b)
		var n [4]int64
		k := 0
		err := in.each(func() (err error) {
			n[min(k, 3)], err = in.number()
			k++
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case k == 1 && n[0] > 0 && n[0] <= repo.FrameSize:
			list = append(list, Piece{File: NoFile, Length: int(n[0])})
		case k == 3 && n[0] >= 0 && n[0] <= 1<<31 && n[2] >= 0 && n[2] <= repo.FrameSize:
			list = append(list, Piece{File: int(n[0]), Offset: n[1], Length: int(n[2])})
		default:
			return fmt.Errorf("malformed piece %s", b[len(b)-from:len(b)-len(in.b)])
		}
		return nil
	})
	if err == nil && len(in.b) > 0 {
		err = errPieces
	}
	*l = list
	return err
}

var errPieces = errors.New("malformed pieces")

// numberLists reads lists, of lists, of whole numbers.
type numberLists struct{ b []byte }

// next returns the next byte that is no white space, which stays; 0 at the end.
func (in *numberLists) next() byte {
	for i, c := range in.b {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			in.b = in.b[i:]
			return c
		}
	}
	in.b = nil
	return 0
}

// each reads a list whose items item reads.
func (in *numberLists) each(item func() error) error {
	if in.next() != '[' {
		return errPieces
	}
	in.b = in.b[1:]
	if in.next() == ']' {
		in.b = in.b[1:]
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		c := in.next()
		if c != ',' && c != ']' {
			return errPieces
		}
		in.b = in.b[1:]
		if c == ']' {
			return nil
		}
	}
}

func (in *numberLists) number() (n int64, err error) {
	negative := in.next() == '-'
	if negative {
		in.b = in.b[1:]
	}
	i := 0
	for ; i < len(in.b) && in.b[i] >= '0' && in.b[i] <= '9'; i++ {
		digit := int64(in.b[i] - '0')
		if n > (math.MaxInt64-digit)/10 {
			return 0, errPieces
		}
		n = 10*n + digit
	}
	if i == 0 {
		return 0, errPieces
	}
	in.b = in.b[i:]
	if negative {
		n = -n
	}
	return n, nil
}
