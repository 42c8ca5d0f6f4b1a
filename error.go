package topk

import (
	"errors"
	"strings"
)

// The kinds of failure a caller can act upon. Everything else is internal.
var (
	// ErrInvalid: the request itself is wrong; asking again will not help.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: what was asked for does not exist.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: a server behind us cannot answer now; try again later.
	ErrUnavailable = errors.New("unavailable")
	// ErrConflict: it cannot be done as things are now, but perhaps later.
	ErrConflict = errors.New("conflict")
)

// A FieldError says what is wrong with one field of an input.
type FieldError struct {
	Field   string `json:"field,omitempty"` // JSON name; "" for the input as a whole
	Message string `json:"message"`
}

func (e FieldError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + " " + e.Message
}

// FieldErrors is every wrong field of one input. It is an ErrInvalid.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Error()
	}
	return strings.Join(parts, "; ")
}

// Is makes errors.Is(err, ErrInvalid) hold.
func (e FieldErrors) Is(target error) bool { return target == ErrInvalid }

// invalid is an ErrInvalid with one message.
func invalid(message string) error { return FieldErrors{{Message: message}} }
