package api

import "github.com/topk-charts/topk"

// EncodeCursor is that of a page's end.
func EncodeCursor(c topk.RejectedCursor) string { return encodeCursor(c) }

// ParseRejectedQuery gives the cursor of a query string that is accepted.
func ParseRejectedQuery(query string) (topk.RejectedCursor, error) {
	_, after, _, err := parseRejectedRequest(query)
	return after, err
}

// ReadChartCursor gives the cursor as it is written again.
func ReadChartCursor(text string) (string, error) {
	c, err := parseChartCursor(text)
	return c.String(), err
}
