package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// ingestJSONSpace is what JSON allows between values.
const ingestJSONSpace = " \t\r\n"

// splitIngestLines gives the items of newline-delimited JSON: its lines, without
// blank ones. Whether a line is JSON is for who parses it; one bad line does
// not spoil the others.
func splitIngestLines(body []byte, most int) ([][]byte, error) {
	var items [][]byte
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		if line = bytes.Trim(line, ingestJSONSpace); len(line) == 0 {
			continue
		}
		if len(items) == most {
			return nil, ingestTooManyPlays(most)
		}
		items = append(items, line)
	}
	return items, nil
}

// splitIngestArray gives the items of a JSON array. The whole must be valid JSON: in
// an array with a missing quote it cannot be told where plays begin and end.
func splitIngestArray(body []byte, most int) ([][]byte, error) {
	body = bytes.Trim(body, ingestJSONSpace)
	if !json.Valid(body) {
		return nil, &ingestProblem{status: http.StatusBadRequest, detail: "the body is not valid JSON: " + ingestJSONFault(body)}
	}
	if body[0] != '[' {
		return nil, &ingestProblem{
			status: http.StatusBadRequest,
			detail: "the body must be a JSON array of plays; send single plays to " + ingestPlayPath,
		}
	}
	var items [][]byte
	rest := bytes.TrimLeft(body[1:], ingestJSONSpace)
	for rest[0] != ']' {
		if len(items) == most {
			return nil, ingestTooManyPlays(most)
		}
		end := ingestValueEnd(rest)
		items = append(items, rest[:end])
		rest = bytes.TrimLeft(rest[end:], ingestJSONSpace)
		if rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], ingestJSONSpace)
		}
	}
	return items, nil
}

// ingestJSONFault says why a text is not JSON.
func ingestJSONFault(text []byte) string {
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	if syntax, ok := err.(*json.SyntaxError); ok {
		return fmt.Sprintf("%v at byte %d", err, syntax.Offset)
	}
	return fmt.Sprint(err)
}

// ingestValueEnd gives the length of the JSON value that text, the inside of a valid
// array, begins with.
func ingestValueEnd(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 {
				continue
			}
			return bytes.IndexAny(text, ingestJSONSpace+",]") // a number or a literal
		}
		if depth == 0 {
			return i + 1
		}
	}
}

func ingestTooManyPlays(most int) *ingestProblem {
	return &ingestProblem{
		status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("a batch must have at most %d plays; send several", most),
	}
}
