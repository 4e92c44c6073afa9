package backup

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPieceList(t *testing.T) {
	for _, l := range []pieceList{
		nil, {}, {{File: 0, Offset: 0, Length: 0}}, {{File: NoFile, Length: 1 << 20}, {File: 1 << 31, Offset: math.MaxInt64, Length: 1 << 20}},
	} {
		b, err := json.Marshal(l)
		require.NoError(t, err)
		var back pieceList
		require.NoError(t, json.Unmarshal(b, &back), "%s", b)
		require.Equal(t, append(pieceList{}, l...), back)
	}
	var l pieceList
	require.NoError(t, json.Unmarshal([]byte(" [ [ 1 ,\t2,\n3 ] , [4]\r] "), &l))
	require.Equal(t, pieceList{{1, 2, 3}, {NoFile, 0, 4}}, l)
	for _, wrong := range []string{
		`{}`, `1`, `"[]"`, `[1]`, `[[]]`, `[[1,2]]`, `[[1,2,3,4]]`, `[[1,2,3,4,5,6]]`, `[["1",2,3]]`, `[[1,2,null]]`, `[[1,2,3.0]]`, `[[1,2,3e0]]`,
		`[[-1,0,1]]`, `[[1,0,-1]]`, `[[0]]`, `[[-1]]`, `[[1048577]]`, `[[1,0,1048577]]`, `[[2147483649,0,1]]`, `[[1,9223372036854775808,1]]`, `[[[1]]]`,
		`[[1,99999999999999999999,1]]`, `[[1,2,3],4]`,
	} {
		require.Error(t, json.Unmarshal([]byte(wrong), &l), wrong)
	}
	for _, wrong := range []string{``, ` `, `[`, `[[`, `[[1`, `[[1,`, `[[1]`, `[[1],`, `[[1]]]`, `[[1]]x`, `[[-`, `[[1 2]]`, `[,]`, `]`} {
		require.Error(t, l.UnmarshalJSON([]byte(wrong)), wrong)
	}
	for _, p := range []Piece{{1, 2, 3}, {NoFile, 0, 4}} {
		b, err := json.Marshal(p)
		require.NoError(t, err)
		var back Piece
		require.NoError(t, json.Unmarshal(b, &back), "%s", b)
		require.Equal(t, p, back)
		require.Error(t, back.UnmarshalJSON([]byte(string(b)+","+string(b))))
	}
}
