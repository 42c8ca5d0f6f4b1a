package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// Errors this front raises itself, numbered and named as ClickHouse does.
const (
	codeNotImplemented     = 48
	codeSyntaxError        = 62
	codeUnknownTypeOfQuery = 78
	codeCannotReadRequest  = 3 // UNEXPECTED_END_OF_FILE
	codeTooLarge           = 307
	codeIntoOutfile        = 358
	codeTooManyQueries     = 202
	codeQueryCancelled     = 394
	codeAuthentication     = 516
	codeBadRequestArgument = 36
	codeUnknownException   = 1002
)

func raise(code int, name, format string, args ...any) error {
	return &chdb.Exception{
		Code: code,
		Text: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name),
	}
}

// exception brings any error into the form a server reports.
func exception(err error, version string) *chdb.Exception {
	var e *chdb.Exception
	if !errors.As(err, &e) {
		code, name := codeUnknownException, "UNKNOWN_EXCEPTION"
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			code, name = codeQueryCancelled, "QUERY_WAS_CANCELLED"
		}
		errors.As(raise(code, name, "%s", err.Error()), &e)
	}
	if !strings.Contains(e.Text, "(version ") {
		e = &chdb.Exception{Code: e.Code, Text: e.Text + " (version " + version + ")"}
	}
	return e
}

// statuses is the server's table from error codes to HTTP statuses; any other
// code is a 500.
var statuses = map[int][]int{
	http.StatusUnauthorized: {194},
	http.StatusForbidden:    {192, 193, 497, 512, 516},
	http.StatusBadRequest: {
		6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676,
	},
	http.StatusNotFound:              {46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511},
	http.StatusRequestTimeout:        {159},
	http.StatusLengthRequired:        {381},
	http.StatusRequestEntityTooLarge: {229},
	http.StatusUnsupportedMediaType:  {779},
	http.StatusNotImplemented:        {48},
	http.StatusServiceUnavailable:    {76, 209, 439},
}

func httpStatus(code int) int {
	for status, codes := range statuses {
		if slices.Contains(codes, code) {
			return status
		}
	}
	return http.StatusInternalServerError
}
