package refresher

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
)

// inspectTimeout is how long one waits for a keeper's answer.
const inspectTimeout = 2 * time.Second

// An inspection asks for the state of one chart.
type inspection struct {
	filter topk.Filter
	window topk.Window
	state  chan board.State // of room for one
}

// answerInspections hands inspections to the keepers.
func (r *Refresher) answerInspections(ctx context.Context, keepers []*keeper) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case i := <-r.inspect:
			for _, k := range keepers {
				if k.board.Window() != i.window {
					continue
				}
				select {
				case <-ctx.Done():
				case k.look <- func(b *board.Board) { i.state <- b.State(i.filter) }:
				}
			}
		}
	}
}

// Debug answers GET /debug/chart?dim=&window= with the state of one chart, as
// JSON.
func (r *Refresher) Debug() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		dim, name := req.URL.Query().Get("dim"), req.URL.Query().Get("window")
		if dim == "" {
			dim = string(topk.DimGlobal)
		}
		if name == "" {
			name = topk.Last24h.String()
		}
		filter, err := topk.ParseFilter(dim)
		if err != nil {
			http.Error(w, "dim "+err.Error(), http.StatusBadRequest)
			return
		}
		window, err := topk.ParseWindow(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(req.Context(), inspectTimeout)
		defer cancel()
		i := inspection{filter, window, make(chan board.State, 1)}
		select {
		case <-ctx.Done():
			http.Error(w, "the charts are being counted, or their keeper is busy: try again", http.StatusServiceUnavailable)
			return
		case r.inspect <- i:
		}
		select {
		case <-ctx.Done():
			http.Error(w, "the chart's keeper is busy: try again", http.StatusServiceUnavailable)
		case state := <-i.state:
			w.Header().Set("Content-Type", "application/json")
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(state); err != nil {
				r.Log.DebugContext(ctx, "a chart's state was not sent", "error", err)
			}
		}
	})
}
