package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/snapshot"
)

// What this file holds stands in for what chart_request.go and parameters.go
// will have, under the same names.

func newChartRequest(f topk.Filter, w topk.Window, k int) chartRequest {
	return chartRequest{filter: f, window: w, k: k, key: snapshot.TopKey(f, w)}
}

func (a *chartAPI) chart(ctx context.Context, req chartRequest) (answer.Chart, error) {
	chart, err := a.compute(ctx, req)
	if err != nil {
		return answer.Chart{}, err
	}
	return a.answer(ctx, req, chart, fromClickHouse, false), nil
}

func (q *query) filter() (f topk.Filter) {
	if dim, given := q.values["dim"]; given {
		var err error
		if f, err = topk.ParseFilter(dim); err != nil {
			q.refuse("dim", err)
		}
	}
	return f
}

func (q *query) given(name string) bool {
	_, given := q.values[name]
	return given
}

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
