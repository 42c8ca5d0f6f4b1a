package api

import (
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// A query is a request's query string, with what is wrong about it.
type query struct {
	values   map[string]string
	problems []*huma.ErrorDetail
}

// parseQuery takes the one value of each parameter. Names that are not among
// the documented ones, and repeats, are wrong.
func parseQuery(rawQuery string, documented []*huma.Param) *query {
	q := &query{}
	if rawQuery == "" {
		return q
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		q.problems = append(q.problems, &huma.ErrorDetail{Location: "query", Message: err.Error()})
	}
	q.values = make(map[string]string, len(values))
	for name, list := range values {
		known := slices.ContainsFunc(documented, func(p *huma.Param) bool { return p.In == inQuery && p.Name == name })
		switch {
		case !known:
			q.problems = append(q.problems, &huma.ErrorDetail{Location: "query." + name, Message: "is not a parameter of this call"})
		case len(list) > 1:
			q.problems = append(q.problems, &huma.ErrorDetail{Location: "query." + name, Message: "must be given once"})
		}
		q.values[name] = list[0]
	}
	slices.SortFunc(q.problems, func(a, b *huma.ErrorDetail) int { return strings.Compare(a.Location, b.Location) })
	return q
}

// refuse says what is wrong with a parameter.
func (q *query) refuse(name string, err error) {
	q.problems = append(q.problems, fieldDetails("query."+name, err)...)
}
