package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressLogEvery is how often a line is logged where there is no terminal.
const progressLogEvery = 10 * time.Second

// showProgress shows how far a job is: a bar on a terminal, a line now and then
// anywhere else. A total of 0 is not known.
func showProgress(out io.Writer, job string, log *slog.Logger) (update func(doing string, done, total int64), stop func()) {
	if file, isFile := out.(*os.File); isFile && term.IsTerminal(int(file.Fd())) {
		return progressBar(file)
	}
	return progressLines(job, log)
}

func progressBar(out *os.File) (update func(doing string, done, total int64), stop func()) {
	bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(24), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond))
	return func(doing string, done, total int64) {
			bar.Describe(doing)
			if total > 0 {
				bar.ChangeMax64(total)
				done = min(done, total)
			}
			_ = bar.Set64(done) // what cannot be drawn is no reason to stop
		}, func() {
			_ = bar.Exit()
			fmt.Fprintln(out)
		}
}

// progressLines logs nothing of what is done before the first line is due.
func progressLines(job string, log *slog.Logger) (update func(doing string, done, total int64), stop func()) {
	var mu sync.Mutex
	shown := time.Now()
	return func(doing string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(shown) < progressLogEvery {
			return
		}
		shown = time.Now()
		if total > 0 {
			log.Info(job, "doing", doing, "done", done, "of", total)
		} else {
			log.Info(job, "doing", doing, "done", done)
		}
	}, func() {}
}
