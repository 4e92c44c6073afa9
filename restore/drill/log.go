package drill

import (
	"bufio"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	tailLines = 40   // that are kept of a log
	lineBytes = 2000 // that are kept of a line
)

// serverLog is what is wanted of the server's log.
type serverLog struct {
	tail     []string // its last lines
	stopping string   // what it said when it reached the target: "recovery stopping ..."; empty when it did not
	shutDown bool     // it ended at the target
	invalid  []string // relations, by their path, of which recovery found pages that are not what the WAL says, and went on
}

// invalidPage is what recovery warns of where ignore_invalid_pages lets it go on (report_invalid_page of PostgreSQL's
// xlogutils.c).
var invalidPage = regexp.MustCompile(`^page \d+ of relation (\S+) (?:is uninitialized|does not exist)$`)

// readLog reads a log. Lines in other languages than English do not count: the server is told to write none.
func readLog(path string) (*serverLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &serverLog{}
	for r := bufio.NewReader(f); ; {
		line, err := readLine(r)
		if line != "" {
			l.add(line)
		}
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readLine reads a line, of which it keeps the beginning.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part[:min(len(part), lineBytes-min(lineBytes, len(line)))]...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "?"), err
		}
	}
}

func (l *serverLog) add(line string) {
	if l.tail = append(l.tail, line); len(l.tail) > tailLines {
		l.tail = l.tail[1:]
	}
	if _, said, ok := strings.Cut(line, " WARNING:  "); ok {
		if page := invalidPage.FindStringSubmatch(said); page != nil && !slices.Contains(l.invalid, page[1]) {
			l.invalid = append(l.invalid, page[1])
		}
		return
	}
	_, said, ok := strings.Cut(line, " LOG:  ")
	switch {
	case !ok:
	case strings.HasPrefix(said, "recovery stopping "):
		l.stopping = said
	case said == "shutdown at recovery target":
		l.shutDown = true
	}
}
