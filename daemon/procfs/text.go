package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var errTruncated = errors.New("last line has no end: truncated")

// nextLine cuts one line off data. A last line without a newline is no line:
// the kernel ends each one, so the rest of it is missing.
func nextLine(data []byte) (line, rest []byte, ok bool) {
	before, after, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, data, false
	}
	return before, after, true
}

// nextWord cuts one word off a line of words separated by blanks and tabs; it
// is empty at the end of the line.
func nextWord(line []byte) (word, rest []byte) {
	i := 0
	for i < len(line) && isBlank(line[i]) {
		i++
	}
	j := i
	for j < len(line) && !isBlank(line[j]) {
		j++
	}
	return line[i:j], line[j:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// count parses a decimal number of at most 63 bits without a sign.
func count(word []byte) (int64, error) {
	n, err := strconv.ParseUint(string(word), 10, 63)
	if err != nil {
		return 0, numberError(word, err)
	}
	return int64(n), nil
}

// signed parses a decimal number of 64 bits that may be negative.
func signed(word []byte) (int64, error) {
	n, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil {
		return 0, numberError(word, err)
	}
	return n, nil
}

func numberError(word []byte, err error) error {
	if ne, ok := errors.AsType[*strconv.NumError](err); ok {
		err = ne.Err
	}
	return fmt.Errorf("number %.32q: %w", word, err)
}

// counts parses a line of exactly len(into) numbers, the shape of most sysctls.
func counts(data []byte, into []int64) error {
	line, rest, ok := nextLine(data)
	if !ok {
		return errTruncated
	}
	if len(rest) > 0 {
		return errors.New("more than one line")
	}
	for i := range into {
		var word []byte
		if word, line = nextWord(line); len(word) == 0 {
			return fmt.Errorf("%d numbers, want %d", i, len(into))
		}
		n, err := count(word)
		if err != nil {
			return err
		}
		into[i] = n
	}
	if word, _ := nextWord(line); len(word) > 0 {
		return fmt.Errorf("more than %d numbers", len(into))
	}
	return nil
}

func oneCount(data []byte) (int64, error) {
	var n [1]int64
	err := counts(data, n[:])
	return n[0], err
}
