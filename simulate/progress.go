package simulate

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainInterval is how often a line is written where there is no terminal.
const plainInterval = 5 * time.Second

// Progress shows how far a sending has come: a bar on a terminal, a line every
// few seconds anywhere else. Give it to SendOptions.OnProgress, and call done
// once Send has returned.
func Progress(out *os.File, opts SendOptions) (update func(SendReport), done func()) {
	if !term.IsTerminal(int(out.Fd())) {
		return plainProgress(out)
	}
	total := expected(opts)
	if total == 0 {
		total = -1 // a spinner
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription("plays"),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(progressInterval/2),
		progressbar.OptionSetPredictTime(total > 0),
	)
	update = func(r SendReport) {
		bar.Describe(fmt.Sprintf("%.0f plays/s, ack p95 %s", r.Rate(), r.AckP95.Round(time.Millisecond)))
		done := min(r.Accepted+r.Rejected, math.MaxInt64)
		if total > 0 {
			done = min(done, uint64(total))
		}
		_ = bar.Set64(int64(done)) // what cannot be drawn is no reason to stop
	}
	return update, func() {
		_ = bar.Exit()
		_, _ = fmt.Fprintln(out)
	}
}

// expected is how many plays will be sent; 0 when there is no telling.
func expected(opts SendOptions) int64 {
	total := float64(opts.Plays)
	if byTime := opts.Rate * opts.Duration.Seconds(); byTime > 0 && (total == 0 || byTime < total) {
		total = byTime
	}
	return int64(total)
}

func plainProgress(out io.Writer) (update func(SendReport), done func()) {
	var shown time.Duration
	update = func(r SendReport) {
		if r.Elapsed-shown < plainInterval {
			return
		}
		shown = r.Elapsed
		_, _ = fmt.Fprintf(out, "%4.0f s: %d plays accepted, %.0f/s, ack p50 %s p95 %s, %d rejected, %d retried\n",
			r.Elapsed.Seconds(), r.Accepted, r.Rate(), r.AckP50.Round(100*time.Microsecond),
			r.AckP95.Round(100*time.Microsecond), r.Rejected, r.Retried)
	}
	return update, func() {}
}

// String gives the counts in a few lines, for the end of a run.
func (r SendReport) String() string {
	s := fmt.Sprintf("%d plays accepted in %s (%.0f/s), %d rejected, %d unacknowledged, %d retried\n"+
		"acknowledged in p50 %s, p95 %s, max %s",
		r.Accepted, r.Elapsed.Round(10*time.Millisecond), r.Rate(), r.Rejected, r.Unacknowledged, r.Retried,
		r.AckP50.Round(100*time.Microsecond), r.AckP95.Round(100*time.Microsecond), r.AckMax.Round(100*time.Microsecond))
	for _, rejection := range r.Rejections {
		s += fmt.Sprintf("\nrejected %s: %v", rejection.EventID, rejection.Errors)
	}
	return s
}
