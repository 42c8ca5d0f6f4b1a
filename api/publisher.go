package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/topk-charts/topk"
)

// TraceparentHeader is the Kafka header that carries the W3C trace context of
// the request a play came with.
const TraceparentHeader = "traceparent"

// PublisherConfig says where plays go and how much may wait on the way.
type PublisherConfig struct {
	Brokers []string
	Topic   string
	// Timeout bounds Publish. 0 means 10 seconds.
	Timeout time.Duration
	// MaxBufferedBytes bounds the records that Kafka has not acknowledged yet,
	// with what they cost beside their content. 0 means 128 MiB.
	MaxBufferedBytes int64
	Registerer       prometheus.Registerer // nil for none
	Options          []kgo.Opt             // TLS, SASL, …
}

// A Publisher writes plays to Kafka and waits until every in-sync replica has
// them.
//
// The client's own limits are not used for that. Of a batch of records it heeds
// only the first one's context, so one caller who goes away would fail the
// plays of others; and with idempotence it never gives up a record that may
// have been written. So records are handed over for good, the bytes on the way
// are counted here, and Publish alone watches the caller's deadline. A play
// that was given up may still arrive: its repeat has the same eventId.
type Publisher struct {
	client   *kgo.Client
	topic    string
	timeout  time.Duration
	buffer   *semaphore.Weighted
	capacity int64
}

// NewPublisher makes a Publisher. It does not wait for Kafka to be there; Ping
// does.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if len(cfg.Brokers) == 0 || cfg.Topic == "" {
		return nil, errors.New("publisher: Kafka brokers and a topic are required")
	}
	p := &Publisher{topic: cfg.Topic, timeout: cfg.Timeout, capacity: cfg.MaxBufferedBytes}
	if p.timeout <= 0 {
		p.timeout = 10 * time.Second
	}
	if p.capacity <= 0 {
		p.capacity = 128 << 20
	}
	p.buffer = semaphore.NewWeighted(p.capacity)

	options := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("topk-gateway"),
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, the default
		kgo.RecordDeliveryTimeout(max(p.timeout, time.Second)),
		// Callers wait for the answer. While requests are on the way the next
		// records gather into a batch anyway.
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(math.MaxInt32), // p.buffer bounds them
		// Find a broker that is back within a second, not five.
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(time.Second, 50*time.Millisecond<<min(tries, 5)) }),
		kgo.MetadataMinAge(500 * time.Millisecond),
	}
	if cfg.Registerer != nil {
		options = append(options, kgo.WithHooks(kprom.NewMetrics("topk",
			kprom.Subsystem("kafka_producer"), kprom.Registerer(cfg.Registerer))))
	}
	client, err := kgo.NewClient(append(options, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p.client = client
	return p, nil
}

// Ping reports whether a broker answers.
func (p *Publisher) Ping(ctx context.Context) error {
	if err := p.client.Ping(ctx); err != nil {
		return fmt.Errorf("%w: ping Kafka: %w", topk.ErrUnavailable, err)
	}
	return nil
}

// Close waits, within the timeout, for what is on its way, and stops.
func (p *Publisher) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	_ = p.client.Flush(ctx) // fails only by the deadline; every Publish knows what became of its plays
	p.client.Close()
}

// Publish writes the plays, whose users are hashed already, and gives for each
// either nil, once all in-sync replicas have it, or why not. An ErrUnavailable
// may be tried again; the play may have been written nevertheless. Publish
// returns when ctx is done or its own timeout has passed, at the latest.
func (p *Publisher) Publish(ctx context.Context, plays []topk.Play) []error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	d := &publishDelivery{errs: make([]error, len(plays)), done: make(chan struct{})}
	records := p.records(ctx, plays, d)
	if d.pending == 0 {
		return d.errs
	}

	weight := min(publishWeight(records), p.capacity)
	if err := p.buffer.Acquire(ctx, weight); err != nil {
		return d.result(fmt.Errorf("%w: the buffer before Kafka is full: %w", topk.ErrUnavailable, err))
	}
	d.onDone = func() { p.buffer.Release(weight) }
	kept := context.WithoutCancel(ctx)
	for i, r := range records {
		if r != nil {
			p.client.TryProduce(kept, r, func(_ *kgo.Record, err error) { d.settle(i, err) })
		}
	}

	select {
	case <-d.done:
	case <-ctx.Done():
	}
	errs := d.result(fmt.Errorf("%w: Kafka did not acknowledge in time: %w", topk.ErrUnavailable, ctx.Err()))
	// The topic was deleted and made again. The client adopts the new one only
	// when it is made to forget the old one.
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, kerr.UnknownTopicID) }) {
		p.client.PurgeTopicsFromProducing(p.topic)
	}
	return errs
}

// records encodes the plays. Those that cannot be have no record and are
// settled in d, the others are pending in it.
func (p *Publisher) records(ctx context.Context, plays []topk.Play, d *publishDelivery) []*kgo.Record {
	headers := []kgo.RecordHeader{{Key: TraceparentHeader, Value: []byte(publishTraceparent(ctx))}}
	records := make([]*kgo.Record, len(plays))
	for i, play := range plays {
		value, err := play.MarshalJSON()
		if err != nil {
			d.errs[i] = fmt.Errorf("encode play %s: %w", play.EventID, err)
			continue
		}
		records[i] = &kgo.Record{Topic: p.topic, Key: []byte(play.SongID), Value: value, Headers: headers}
		d.errs[i] = errPublishPending
		d.pending++
	}
	return records
}

// publishRecordOverhead is about what a record costs in memory beside its content.
const publishRecordOverhead = 512

func publishWeight(records []*kgo.Record) (weight int64) {
	for _, r := range records {
		if r != nil {
			weight += int64(len(r.Key)+len(r.Value)) + publishRecordOverhead
		}
	}
	return weight
}

var errPublishPending = errors.New("pending")

// A publishDelivery gathers what became of the plays of one Publish. Acknowledgements
// may come after the caller has left.
type publishDelivery struct {
	onDone func()

	mu      sync.Mutex
	errs    []error // errPublishPending until settled
	pending int
	done    chan struct{} // closed when nothing is pending
}

func (d *publishDelivery) settle(i int, err error) {
	if err != nil {
		err = fmt.Errorf("%w: produce to Kafka: %w", topk.ErrUnavailable, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errs[i] = err
	if d.pending--; d.pending == 0 {
		d.onDone()
		close(d.done)
	}
}

// result gives what is known now, with err for the plays that are pending.
func (d *publishDelivery) result(err error) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := slices.Clone(d.errs)
	for i := range errs {
		if errs[i] == errPublishPending {
			errs[i] = err
		}
	}
	return errs
}

// publishTraceparent gives the W3C form of ctx's trace context, or of a new random one.
func publishTraceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, publishRandomSpan())
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get(TraceparentHeader)
}

func publishRandomSpan() trace.SpanContext {
	var cfg trace.SpanContextConfig
	_, _ = rand.Read(cfg.TraceID[:]) // never fails
	_, _ = rand.Read(cfg.SpanID[:])
	return trace.NewSpanContext(cfg)
}
