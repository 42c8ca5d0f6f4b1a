package loader

// ParseReplayLine reads one line of an edited export.
func ParseReplayLine(text []byte) (ReplayLine, error) { return parseReplayLine(text) }

// Without leaves fields out of a JSON object.
func Without(object []byte, fields []string) ([]byte, error) { return without(object, fields) }
