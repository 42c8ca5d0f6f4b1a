package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
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

// given reports whether there is the parameter, written as its name, or as
// name=value for just that value of it.
func (q *query) given(parameter string) bool {
	name, want, exactly := strings.Cut(parameter, "=")
	value, given := q.values[name]
	return given && (!exactly || value == want)
}

// apart refuses two parameters, written as for given, that contradict each
// other, and reports whether they are there.
func (q *query) apart(one, other string) bool {
	if !q.given(one) || !q.given(other) {
		return false
	}
	for _, p := range [][2]string{{one, other}, {other, one}} {
		name, _, _ := strings.Cut(p[0], "=")
		q.refuse(name, fmt.Errorf("must not be given with %s", p[1]))
	}
	return true
}

// require refuses a parameter that is given without the other, which it names.
func (q *query) require(name, other string) {
	if q.given(name) && !q.given(other) {
		q.refuse(other, fmt.Errorf("is required with %s", name))
	}
}

// choice reads a parameter that is one of a few words, the first of which is
// the default.
func (q *query) choice(name string, words ...string) string {
	value, given := q.values[name]
	if !given {
		return words[0]
	}
	if !slices.Contains(words, value) {
		q.refuse(name, fmt.Errorf("must be %s", strings.Join(words, " or ")))
	}
	return value
}

// number reads a whole number from 1 to limit.
func (q *query) number(name string, otherwise, limit int) int {
	text, given := q.values[name]
	if !given {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		q.refuse(name, errors.New("must be a whole number from 1 to "+strconv.Itoa(limit)))
	}
	return n
}

// documented is the parameter of the name, as another call has it too.
func documented(parameters []*huma.Param, name string) *huma.Param {
	for _, p := range parameters {
		if p.Name == name {
			return p
		}
	}
	panic("no parameter " + name)
}

// pathID gives the path's id of the name, and whether there can be such a thing.
// The router matches the escaped path when there is one, such as for an id with
// a slash, and the plain one otherwise.
func pathID(r *http.Request, name string, limit int) (id string, ok bool) {
	id = chi.URLParam(r, name)
	if r.URL.RawPath != "" {
		if plain, err := url.PathUnescape(id); err == nil {
			id = plain
		}
	}
	return id, len(id) <= limit && utf8.ValidString(id)
}
