package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/topk-charts/topk"
	"golang.org/x/sync/errgroup"
)

// SendOptions say how plays are sent.
type SendOptions struct {
	Target Target
	// Rate is how many plays are sent a second; 0 is as fast as the target
	// acknowledges. When the target cannot keep up, at most a second's worth is
	// made up for later.
	Rate float64
	// Plays is how many plays are sent in all; 0 is no limit.
	Plays uint64
	// Duration is how long plays are sent; 0 is no limit.
	Duration time.Duration
	// Connections is how many batches may be under way; 0 means 4.
	Connections int
	// BatchEvery is how long plays are gathered before they are sent, when
	// there is a rate; 0 means 100 ms.
	BatchEvery time.Duration
	// BatchPlays is the most plays of one batch; 0 means 1,000.
	BatchPlays int
	// Encoding compresses the batches.
	Encoding Encoding
	// Grace is how long batches under way may still be acknowledged once ctx
	// is done; 0 means 5 s.
	Grace time.Duration
	// OnProgress, when not nil, is told about twice a second, and at the end,
	// how far the sending has come. It must not block for long.
	OnProgress func(SendReport)
}

// A source of plays, such as Generator.Next. It is called by one goroutine.
type source func() topk.Play

// SendReport counts what became of the plays.
type SendReport struct {
	Sent           uint64 // handed over for sending: the sum of the next three, in the end
	Accepted       uint64 // acknowledged and taken; repeats of an event count here each time
	Rejected       uint64 // acknowledged and refused
	Unacknowledged uint64 // given up: the target may have them or not
	Retried        uint64 // plays that were posted again, each time counted
	Batches        uint64 // acknowledged
	Elapsed        time.Duration
	// Latency of acknowledgements, from a batch's first attempt.
	AckP50, AckP95, AckMax time.Duration
	// Rejections are the first few, to see what is wrong.
	Rejections []Rejection
}

// Rate is how many plays a second were acknowledged as accepted.
func (r SendReport) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Accepted) / r.Elapsed.Seconds()
}

const (
	maxRejections    = 5
	progressInterval = 500 * time.Millisecond
	maxBehind        = time.Second // of plays, that are made up for after a stall
)

func (o SendOptions) withDefaults() SendOptions {
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.BatchEvery == 0 {
		o.BatchEvery = 100 * time.Millisecond
	}
	if o.BatchPlays == 0 {
		o.BatchPlays = 1000
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Second
	}
	return o
}

func (o SendOptions) validate() error {
	var errs []error
	if !(o.Rate >= 0 && o.Rate <= 1e7) { // also refuses NaN
		errs = append(errs, fmt.Errorf("rate must be 0 to 10,000,000 plays a second, is %v", o.Rate))
	}
	if o.Duration < 0 {
		errs = append(errs, fmt.Errorf("duration must not be negative, is %s", o.Duration))
	}
	if o.Connections < 1 || o.Connections > 1024 {
		errs = append(errs, fmt.Errorf("connections must be 1 to 1024, is %d", o.Connections))
	}
	if o.BatchEvery < time.Millisecond || o.BatchEvery > time.Minute {
		errs = append(errs, fmt.Errorf("batches must be sent every 1ms to 1m, is %s", o.BatchEvery))
	}
	if o.BatchPlays < 1 || o.BatchPlays > 100_000 {
		errs = append(errs, fmt.Errorf("a batch must hold 1 to 100,000 plays, is %d", o.BatchPlays))
	}
	if o.Grace < 0 {
		errs = append(errs, fmt.Errorf("grace must not be negative, is %s", o.Grace))
	}
	return errors.Join(errs...)
}

// Send sends plays from next until its limit is reached, ctx is done (which is
// not an error) or the target answers something that sending again will not
// change. Every batch is repeated until it is acknowledged. The report is
// right in every case.
func Send(ctx context.Context, next func() topk.Play, opts SendOptions) (SendReport, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return SendReport{}, fmt.Errorf("send plays: %w", err)
	}
	conn, err := opts.Target.connect(opts.Connections)
	if err != nil {
		return SendReport{}, fmt.Errorf("send plays: %w", err)
	}
	defer conn.close()

	s := &sending{opts: opts, conn: conn, start: time.Now(), queue: make(chan batch)}
	err = s.run(ctx, next)
	report := s.report()
	if opts.OnProgress != nil {
		opts.OnProgress(report)
	}
	if err != nil {
		return report, fmt.Errorf("send plays: %w", err)
	}
	return report, nil
}

// A sending is one call of Send: one goroutine makes batches, several post
// them. What is in memory is a batch for each of them.
type sending struct {
	opts  SendOptions
	conn  *connection
	start time.Time
	queue chan batch

	mu        sync.Mutex
	counts    SendReport
	latencies histogram
}

func (s *sending) run(ctx context.Context, next source) error {
	// Requests under way outlive ctx by the grace, so that the counts are true.
	posting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		if sleep(posting, s.opts.Grace) {
			stop()
		}
	})()

	producing, failed := context.WithCancel(ctx)
	defer failed()
	var workers errgroup.Group // one that fails lets the others finish their batch
	for range s.opts.Connections {
		workers.Go(func() error {
			err := s.postAll(posting)
			if err != nil {
				failed()
			}
			return err
		})
	}
	stopProgress := s.showProgress()
	defer stopProgress()

	err := s.produce(producing, next)
	close(s.queue)
	return errors.Join(workers.Wait(), err)
}

// produce makes batches until a limit is reached or ctx is done.
func (s *sending) produce(ctx context.Context, next source) error {
	if s.opts.Rate > 0 {
		return s.produceAtRate(ctx, next)
	}
	for sent := uint64(0); ; {
		n := s.remaining(sent, uint64(s.opts.BatchPlays))
		if n == 0 || s.opts.Duration > 0 && time.Since(s.start) >= s.opts.Duration {
			return nil
		}
		if ok, err := s.enqueue(ctx, next, int(n)); !ok {
			return err
		}
		sent += n
	}
}

func (s *sending) produceAtRate(ctx context.Context, next source) error {
	ticker := time.NewTicker(s.opts.BatchEvery)
	defer ticker.Stop()
	var sent, forgiven uint64 // plays a stall made us miss for good
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		elapsed, last := time.Since(s.start), false
		if s.opts.Duration > 0 && elapsed >= s.opts.Duration {
			elapsed, last = s.opts.Duration, true
		}
		due := uint64(s.opts.Rate*elapsed.Seconds()+1e-6) - sent - forgiven
		if most := uint64(math.Ceil(s.opts.Rate * max(maxBehind, s.opts.BatchEvery).Seconds())); due > most {
			forgiven += due - most
			due = most
		}
		for due > 0 {
			n := s.remaining(sent, min(due, uint64(s.opts.BatchPlays)))
			if n == 0 {
				return nil
			}
			if ok, err := s.enqueue(ctx, next, int(n)); !ok {
				return err
			}
			sent += n
			due -= n
		}
		if last || s.remaining(sent, 1) == 0 {
			return nil
		}
	}
}

// remaining is how many of the wanted plays the limit still allows.
func (s *sending) remaining(sent, wanted uint64) uint64 {
	if s.opts.Plays == 0 {
		return wanted
	}
	return min(wanted, s.opts.Plays-sent)
}

// enqueue makes a batch of n plays and hands it over, as soon as a connection
// is free; ok is false when nothing more is to be sent.
func (s *sending) enqueue(ctx context.Context, next source, n int) (ok bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	var b batch
	for range n {
		if err := b.add(next()); err != nil {
			return false, err
		}
	}
	select {
	case <-ctx.Done():
		return false, nil
	case s.queue <- b:
		return true, nil
	}
}

// postAll posts batches until there are no more.
func (s *sending) postAll(ctx context.Context) error {
	for b := range s.queue {
		s.count(func(r *SendReport) { r.Sent += uint64(b.plays) })
		first := time.Now()
		ack, retries, err := s.conn.deliver(ctx, b, s.opts.Encoding)
		if err != nil {
			s.count(func(r *SendReport) {
				r.Retried += uint64(retries * b.plays)
				r.Unacknowledged += uint64(b.plays)
			})
			if ctx.Err() != nil {
				return nil // we were told to stop
			}
			return err
		}
		latency := time.Since(first)
		s.count(func(r *SendReport) {
			r.Retried += uint64(retries * b.plays)
			r.Accepted += ack.Accepted
			r.Rejected += uint64(len(ack.Rejected))
			r.Batches++
			keep := min(maxRejections-len(r.Rejections), len(ack.Rejected))
			r.Rejections = append(r.Rejections, ack.Rejected[:keep]...)
			s.latencies.add(latency)
		})
	}
	return nil
}

func (s *sending) count(change func(*SendReport)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

func (s *sending) report() SendReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.counts
	r.Rejections = append([]Rejection(nil), r.Rejections...)
	r.Elapsed = time.Since(s.start)
	r.AckP50 = s.latencies.quantile(0.50)
	r.AckP95 = s.latencies.quantile(0.95)
	r.AckMax = s.latencies.max
	return r
}

// showProgress calls OnProgress until it is stopped.
func (s *sending) showProgress() (stop func()) {
	if s.opts.OnProgress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				s.opts.OnProgress(s.report())
			}
		}
	}()
	return func() { close(done); <-ended }
}
