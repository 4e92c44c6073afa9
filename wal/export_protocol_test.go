package wal

// ParseAnswer parses what a server answers to a request to do something.
func ParseAnswer(do string, line []byte) (size int64, err error) {
	a, err := parseAnswer(do, line)
	return a.Size, err
}

// AnswerTo is what a server does with a line, up to the work itself.
func AnswerTo(line []byte) (do string, n Name, err error) {
	r, n, err := parseRequest(line)
	return r.Do, n, err
}

// Answered returns an error as it is after its way from a server to a client.
func Answered(do string, err error) (size int64, line []byte, _ error) {
	line = encodeAnswer(answerOf(do, answer{Size: 7}, err))
	size, err = ParseAnswer(do, line)
	return size, line, err
}

// ID is the id of the archive's repository.
func (a *Archive) ID() string { return a.repo.ID() }
