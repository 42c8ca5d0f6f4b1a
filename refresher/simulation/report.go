package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// report writes what was found.
func (s *simulation) report(out io.Writer, took time.Duration) error {
	simulated := float64(s.now-firstMinute) * 60
	charts := s.updating + s.settling
	fmt.Fprintf(out, "%g plays a day of %d songs, exponent %g, %.3g days, ticks of %d s, limits %+v\n",
		s.Plays, s.Songs, s.Exponent, simulated/86400, 60/s.Ticks, s.limits())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\t\n", name, fmt.Sprintf(format, args...))
	}
	row("plays", "%d", s.plays)
	row("chart updates", "%d", s.updates)
	row("CPU of an update", "%.0f ns", float64(s.updating)/float64(max(s.updates, 1)))
	row("CPU of settling", "%.1f %% of the whole", 100*float64(s.settling)/float64(max(charts, 1)))
	row("CPU of 100M plays, charts kept here", "%.0f core s", charts.Seconds()/float64(max(s.plays, 1))*100e6)
	row("CPU against real time", "%.0f times as fast", simulated/max(charts.Seconds(), 1e-9))
	row("the whole program against real time", "%.0f times as fast", simulated/max(took.Seconds(), 1e-9))
	row("CPU of a pass for global and 50 genres", "%.1f ms", s.genres.Seconds()*1e3/float64(max(s.passes, 1)))
	row("comparisons with brute force", "%d", s.comparisons)
	row("mismatches", "%d", s.mismatches)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}

	fmt.Fprintln(out)
	fmt.Fprint(t, "window\tdimension\tcharts\tcomplete\tentries\tMB\tB/entry\trebases: riser\thigh floor\trebases/s\tall charts: rebases/s\tMB\t\n")
	var rate, bytes float64
	for _, w := range s.windows {
		for dim := range dimensions {
			var charts, complete, entries, size int
			var rebases [causes]int
			for _, k := range w.charts {
				if k.dim != dim {
					continue
				}
				stats := k.chart.Stats()
				charts++
				entries += stats.Candidates + stats.Pending
				size += stats.Bytes
				if stats.Complete {
					complete++
				}
				for cause, n := range k.rebases {
					rebases[cause] += n
				}
			}
			factor := 1.0
			if dim == byCity {
				factor = cities / float64(max(charts, 1))
			}
			perSecond := float64(rebases[riser]+rebases[highFloor]) / max(simulated, 1)
			rate += perSecond * factor
			bytes += float64(size) * factor
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%.1f\t%.1f\t%d\t%d\t%.5f\t%.5f\t%.1f\t\n",
				w.name, dim, charts, complete, entries, float64(size)/1e6, float64(size)/float64(max(entries, 1)),
				rebases[riser], rebases[highFloor], perSecond, perSecond*factor, float64(size)*factor/1e6)
		}
		bytes += float64(w.global.Bytes())
		fmt.Fprintf(t, "%s\tglobal\t1\t1\t%d\t%.1f\t8.0\t0\t0\t0\t0\t%.1f\t\n", w.name, s.Songs,
			float64(w.global.Bytes())/1e6, float64(w.global.Bytes())/1e6)
	}
	fmt.Fprintf(t, "all\t\t\t\t\t\t\t\t\t\t%.5f\t%.1f\t\n", rate, bytes/1e6)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	_, err := fmt.Fprintf(out, `
Riser: a song that was no candidate has come to half the plays of the N-th or
more. It takes a rebase to know its count, whatever the limits. High floor: the
bound was above half of the N-th, which more candidates or a scrub would help.
The last two columns are extrapolated from the kept cities to all %d.
`, cities)
	return err
}
