package chdb

import (
	"regexp"
	"strconv"
	"strings"
)

// Exception is an error of the engine.
type Exception struct {
	Code int
	// Text is the whole message as a server writes it: "Code: 60.
	// DB::Exception: … (UNKNOWN_TABLE)".
	Text string
}

func (e *Exception) Error() string { return e.Text }

var exceptionCode = regexp.MustCompile(`^Code: (\d+)\.`)

// codeUnknown is ClickHouse's UNKNOWN_EXCEPTION.
const codeUnknown = 1002

func parseException(text string) *Exception {
	text = strings.TrimSpace(text)
	e := &Exception{Code: codeUnknown, Text: text}
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		e.Code, _ = strconv.Atoi(m[1])
	}
	return e
}
