package loader

import "io"

// ParseReplayLine reads one line of an edited export.
func ParseReplayLine(text []byte) (ReplayLine, error) { return parseReplayLine(text) }

// Without leaves fields out of a JSON object.
func Without(object []byte, fields []string) ([]byte, error) { return without(object, fields) }

// ReadSongs hands each row of a file to take, and gives what is wrong with others.
func ReadSongs(format string, in io.Reader, take func(object []byte) error) (*BadRows, error) {
	r := &reader{fields: songFields, separator: "|", take: take}
	read := r.lines
	if format == "csv" {
		read = r.csv
	}
	return &r.bad, read("f", in)
}
