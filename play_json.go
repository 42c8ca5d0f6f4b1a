package topk

import (
	"bytes"
	"encoding/json"
)

// rawPlay holds the JSON values of a play's fields as they were sent, without
// space around them; nil when absent.
type rawPlay struct {
	eventID, userID, songID, artistID, timestamp []byte
	region, device, context, duration            []byte
}

// splitPlay gives the fields of the JSON object in data; ok is false when data
// is not one. Field names match exactly, unknown ones are ignored, and of a
// repeated one the last counts.
//
// encoding/json judges the syntax; the walk below then only has to find where
// values end. Unmarshalling into a map takes ten times as long, and into a
// struct it would take EVENTID for eventId.
func splitPlay(data []byte) (raw rawPlay, ok bool) {
	if !json.Valid(data) {
		return rawPlay{}, false
	}
	i := skipSpace(data, 0)
	if data[i] != '{' {
		return rawPlay{}, false
	}
	for i = skipSpace(data, i+1); data[i] != '}'; i = skipSpace(data, i) {
		if data[i] == ',' {
			i = skipSpace(data, i+1)
		}
		name := data[i:skipString(data, i)]
		i = skipSpace(data, i+len(name))
		i = skipSpace(data, i+1) // the colon
		value := data[i:skipValue(data, i)]
		i += len(value)
		if field := raw.field(name); field != nil {
			*field = value
		}
	}
	return raw, true
}

// field gives where to keep the field of that (quoted) name, nil for a name
// that means nothing here.
func (r *rawPlay) field(name []byte) *[]byte {
	plain := name[1 : len(name)-1]
	if bytes.IndexByte(plain, '\\') >= 0 {
		plain = []byte(unquote(name))
	}
	switch string(plain) {
	case "eventId":
		return &r.eventID
	case "userId":
		return &r.userID
	case "songId":
		return &r.songID
	case "artistId":
		return &r.artistID
	case "timestamp":
		return &r.timestamp
	case "region":
		return &r.region
	case "deviceType":
		return &r.device
	case "context":
		return &r.context
	case "duration":
		return &r.duration
	}
	return nil
}

// isAbsent reports whether a field was not sent, or sent as null, which means
// the same.
func isAbsent(raw []byte) bool { return raw == nil || raw[0] == 'n' }

// unquote gives the text of a valid JSON string.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic("topk: unquote of an invalid JSON string") // splitPlay checked it
	}
	return s
}

// skipSpace gives the index of the first byte of data at or after i that is
// not JSON white space.
func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// skipString gives the index after the JSON string that begins at i.
func skipString(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue gives the index after the JSON value that begins at i, inside an
// object of valid JSON.
func skipValue(data []byte, i int) int {
	depth := 0
	for {
		switch data[i] {
		case '"':
			i = skipString(data, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		default: // a number, a literal, or what separates values
			i++
			if depth == 0 {
				return skipScalar(data, i)
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func skipScalar(data []byte, i int) int {
	for bytes.IndexByte([]byte(",]} \n\t\r"), data[i]) < 0 {
		i++
	}
	return i
}
