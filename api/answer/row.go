package answer

// A Row is one line of a chart as NDJSON, and has the columns of the CSV: an
// item, and of which chart it is, so that lines of several charts can be put
// together and still told apart.
type Row struct {
	Item
	Dim         string `json:"dim" doc:"The filter, in its canonical form" example:"region:IN"`
	Window      string `json:"window" doc:"The window's name, or from/to" example:"24h"`
	AsOf        string `json:"asOf" format:"date-time" doc:"When the chart was exact" example:"2025-11-24T16:00:00.000Z"`
	WindowStart string `json:"windowStart" format:"date-time"`
	WindowEnd   string `json:"windowEnd" format:"date-time" doc:"Exclusive"`
	Source      string `json:"source" enum:"snapshot,closed,clickhouse,last-known"`
	Stale       bool   `json:"stale" doc:"The chart should have moved since asOf, but could not"`
}

// Rows gives the chart's items as rows.
func (c *Chart) Rows() []Row {
	rows := make([]Row, len(c.Items))
	for i, item := range c.Items {
		rows[i] = Row{
			Item: item, Dim: c.Dim, Window: c.Window, AsOf: c.AsOf, WindowStart: c.WindowStart, WindowEnd: c.WindowEnd,
			Source: c.Source, Stale: c.Stale,
		}
	}
	return rows
}
