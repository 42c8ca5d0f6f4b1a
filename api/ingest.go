package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/topk-charts/topk"
)

// The paths of ingest.
const (
	ingestPlayPath  = "/v1/events/play"
	ingestPlaysPath = "/v1/events/plays"
)

// minPepperBytes keeps a pepper from being guessed along with the user ids.
const minPepperBytes = 16

// ingestPlayOverhead is about what one play of a body costs in memory beside its
// text: parsed, as a record, and in the answer when it is rejected.
const ingestPlayOverhead = 2 << 10

// IngestLimits bound what ingest accepts and keeps in memory.
type IngestLimits struct {
	MaxPlayBytes     int64         // of one play: the body of the single call, one item of a batch
	MaxBatchBytes    int64         // of a batch, as it is sent and when decompressed
	MaxBatchPlays    int           // in one batch
	MaxInFlightBytes int64         // of all bodies that are being handled
	AdmissionTimeout time.Duration // how long a request waits for its share of MaxInFlightBytes
	BodyTimeout      time.Duration // how long a client may take to send its body
	RetryAfter       time.Duration // what a 503 tells the client to wait
}

// DefaultIngestLimits suit a gateway with half a gigabyte to spare.
func DefaultIngestLimits() IngestLimits {
	return IngestLimits{
		MaxPlayBytes:     64 << 10,
		MaxBatchBytes:    16 << 20,
		MaxBatchPlays:    10_000,
		MaxInFlightBytes: 256 << 20,
		AdmissionTimeout: time.Second,
		BodyTimeout:      30 * time.Second,
		RetryAfter:       2 * time.Second,
	}
}

// largest is the most that one request may take of MaxInFlightBytes.
func (l IngestLimits) largest() int64 {
	return 2*(l.MaxBatchBytes+bodySlack) + int64(l.MaxBatchPlays)*ingestPlayOverhead
}

func (l IngestLimits) validate() error {
	var errs []error
	if l.MaxPlayBytes <= 0 || l.MaxBatchBytes < l.MaxPlayBytes || l.MaxBatchPlays <= 0 {
		errs = append(errs, errors.New("the limits of plays and batches must be positive, and a batch must have room for a play"))
	}
	if l.MaxInFlightBytes < l.largest() {
		errs = append(errs, fmt.Errorf("MaxInFlightBytes must be at least %d, which the largest batch takes", l.largest()))
	}
	if l.AdmissionTimeout <= 0 || l.BodyTimeout <= 0 || l.RetryAfter <= 0 {
		errs = append(errs, errors.New("every time must be positive"))
	}
	return errors.Join(errs...)
}

// IngestConfig is what ingest is made of.
type IngestConfig struct {
	Publisher  *Publisher
	Rules      topk.Rules
	Pepper     []byte // of the user hash, at least 16 bytes
	Clock      topk.Clock
	Limits     IngestLimits          // the zero value means DefaultIngestLimits
	Registerer prometheus.Registerer // nil for none
	Log        *slog.Logger          // nil for none
}

func (c IngestConfig) validate() error {
	var errs []error
	if c.Publisher == nil || c.Clock == nil {
		errs = append(errs, errors.New("a publisher and a clock are required"))
	}
	if len(c.Pepper) < minPepperBytes {
		errs = append(errs, fmt.Errorf("the pepper must be at least %d bytes", minPepperBytes))
	}
	if c.Rules.MaxAge <= 0 || c.Rules.MaxAhead < 0 {
		errs = append(errs, errors.New("the rules must accept plays of some age"))
	}
	return errors.Join(append(errs, c.Limits.validate())...)
}

// Ingest is the gateway: it takes plays over HTTP, checks them, hashes their
// users and answers once Kafka has them.
type Ingest struct {
	publisher *Publisher
	rules     topk.Rules
	pepper    []byte
	clock     topk.Clock
	limits    IngestLimits
	log       *slog.Logger
	budget    *bodyBudget
	unpackers bodyUnpackers
	metrics   ingestMetrics
}

// NewIngest makes the gateway's ingest.
func NewIngest(cfg IngestConfig) (*Ingest, error) {
	if cfg.Limits == (IngestLimits{}) {
		cfg.Limits = DefaultIngestLimits()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	budget := newBodyBudget(cfg.Limits.MaxInFlightBytes)
	return &Ingest{
		publisher: cfg.Publisher,
		rules:     cfg.Rules,
		pepper:    cfg.Pepper,
		clock:     cfg.Clock,
		limits:    cfg.Limits,
		log:       cfg.Log,
		budget:    budget,
		unpackers: newBodyUnpackers(),
		metrics:   newIngestMetrics(cfg.Registerer, budget),
	}, nil
}

// Routes adds the ingest calls to r.
func (in *Ingest) Routes(r chi.Router) {
	r.Handle(ingestPlayPath, in.endpoint("play", in.takePlay))
	r.Handle(ingestPlaysPath, in.endpoint("plays", in.takePlays))
}

// PlayAccepted answers one play that Kafka acknowledged.
type PlayAccepted struct {
	EventID string `json:"eventId" doc:"The play's idempotency key, as it was sent" example:"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11"`
}

// PlaysAccepted answers a batch of which Kafka acknowledged every good play.
type PlaysAccepted struct {
	Accepted int            `json:"accepted" minimum:"0" doc:"How many plays were accepted" example:"2"`
	Rejected []RejectedPlay `json:"rejected" nullable:"false" doc:"The plays that break a rule; sending them again does not help"`
}

// RejectedPlay says what is wrong with one play of a batch.
type RejectedPlay struct {
	Index   int                 `json:"index" minimum:"0" doc:"Its place in the batch, from 0; blank lines do not count" example:"1"`
	EventID string              `json:"eventId,omitempty" doc:"When it could be read" example:"e-2"`
	Errors  []*huma.ErrorDetail `json:"errors" nullable:"false" doc:"Everything that is wrong with it"`
}

// takePlay takes the one play in the body.
func (in *Ingest) takePlay(w http.ResponseWriter, r *http.Request, lease *bodyLease) (any, error) {
	body, _, err := in.receive(w, r, lease, bodyRules{limit: in.limits.MaxPlayBytes, mediaTypes: []string{ingestJSON}})
	if err != nil {
		return nil, err
	}
	play, err := topk.ParsePlay(body, in.rules, in.clock())
	if err != nil {
		in.metrics.rejected.Inc()
		return nil, &ingestProblem{
			status: http.StatusBadRequest,
			detail: "the play breaks the rules of its fields",
			errors: ingestErrors("body", err),
		}
	}
	if failed := in.publish(r, []topk.Play{play}); failed > 0 {
		return nil, in.unavailable("Kafka did not acknowledge the play in time; " +
			"send it again with the same eventId: it will be counted once")
	}
	return PlayAccepted{EventID: play.EventID}, nil
}

// takePlays takes the plays of a batch, all or none of the good ones as far as
// the client can tell: when some are not acknowledged it sends all of them
// again.
func (in *Ingest) takePlays(w http.ResponseWriter, r *http.Request, lease *bodyLease) (any, error) {
	body, mediaType, err := in.receive(w, r, lease, bodyRules{limit: in.limits.MaxBatchBytes, mediaTypes: ingestBatchTypes})
	if err != nil {
		return nil, err
	}
	split := splitIngestLines
	if mediaType == ingestJSON {
		split = splitIngestArray
	}
	items, err := split(body, in.limits.MaxBatchPlays)
	if err != nil {
		return nil, err
	}
	if err := lease.grow(int64(len(items)) * ingestPlayOverhead); err != nil {
		return nil, in.unavailable(err.Error())
	}
	plays, rejected := in.parseItems(items)
	if failed := in.publish(r, plays); failed > 0 {
		return nil, in.unavailable(fmt.Sprintf("Kafka did not acknowledge %d of %d plays in time; "+
			"send the whole batch again with the same eventIds: no play will be counted twice", failed, len(plays)))
	}
	return PlaysAccepted{Accepted: len(plays), Rejected: rejected}, nil
}

// parseItems sorts the items of a batch into plays and rejections.
func (in *Ingest) parseItems(items [][]byte) (plays []topk.Play, rejected []RejectedPlay) {
	plays, rejected = make([]topk.Play, 0, len(items)), []RejectedPlay{}
	now := in.clock()
	for i, item := range items {
		play, err := in.parseItem(item, now)
		if err != nil {
			rejected = append(rejected, RejectedPlay{i, play.EventID, ingestErrors(fmt.Sprintf("body[%d]", i), err)})
			continue
		}
		plays = append(plays, play)
	}
	in.metrics.rejected.Add(float64(len(rejected)))
	return plays, rejected
}

func (in *Ingest) parseItem(item []byte, now time.Time) (topk.Play, error) {
	if int64(len(item)) > in.limits.MaxPlayBytes {
		return topk.Play{}, topk.FieldErrors{{
			Message: fmt.Sprintf("must be at most %d bytes, is %d", in.limits.MaxPlayBytes, len(item)),
		}}
	}
	return topk.ParsePlay(item, in.rules, now)
}

// publish hashes the users and hands the plays to Kafka. It gives how many
// were not acknowledged.
func (in *Ingest) publish(r *http.Request, plays []topk.Play) (failed int) {
	for i := range plays {
		plays[i].UserID = topk.HashUser(in.pepper, plays[i].UserID)
	}
	start := in.clock()
	errs := in.publisher.Publish(ingestTraceContext(r), plays)
	in.metrics.produce.Observe(in.clock().Sub(start).Seconds())

	var first error
	for i, err := range errs {
		if err == nil {
			continue
		}
		if failed++; first == nil {
			first = fmt.Errorf("play %s: %w", plays[i].EventID, err)
		}
	}
	in.metrics.accepted.Add(float64(len(plays) - failed))
	in.metrics.failed.Add(float64(failed))
	if failed > 0 {
		in.log.WarnContext(r.Context(), "plays were not acknowledged", "failed", failed, "of", len(plays), "error", first)
	}
	return failed
}

// ingestTraceContext gives the request's context with the trace it belongs to: the
// span that is open here, else the one its traceparent header names.
func ingestTraceContext(r *http.Request) context.Context {
	ctx := r.Context()
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
}

// endpoint wraps a call with what both share: the method, the lease on memory,
// the answer and the metrics.
func (in *Ingest) endpoint(name string, take func(http.ResponseWriter, *http.Request, *bodyLease) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := in.clock()
		lease := &bodyLease{budget: in.budget}
		defer lease.release()
		status := in.answer(w, r, lease, take)
		in.metrics.requests.WithLabelValues(name, strconv.Itoa(status)).Observe(in.clock().Sub(start).Seconds())
	}
}

func (in *Ingest) answer(w http.ResponseWriter, r *http.Request, lease *bodyLease,
	take func(http.ResponseWriter, *http.Request, *bodyLease) (any, error)) (status int) {
	var accepted any
	err := error(ingestOnlyPOST())
	if r.Method == http.MethodPost {
		accepted, err = take(w, r, lease)
	}
	if err != nil {
		p := in.problemOf(r, err)
		p.write(w, r)
		return p.status
	}
	writeIngestBody(w, "application/json", http.StatusAccepted, accepted)
	return http.StatusAccepted
}

// problemOf gives the problem to answer err with.
func (in *Ingest) problemOf(r *http.Request, err error) *ingestProblem {
	var p *ingestProblem
	if errors.As(err, &p) {
		return p
	}
	in.log.ErrorContext(r.Context(), "ingest failed", "error", err)
	return &ingestProblem{status: http.StatusInternalServerError, detail: "the gateway failed"}
}

// unavailable asks the client to come back.
func (in *Ingest) unavailable(detail string) *ingestProblem {
	seconds := int((in.limits.RetryAfter + time.Second - 1) / time.Second)
	return &ingestProblem{
		status: http.StatusServiceUnavailable,
		detail: detail,
		header: http.Header{"Retry-After": {strconv.Itoa(seconds)}},
	}
}

func ingestOnlyPOST() *ingestProblem {
	return &ingestProblem{
		status: http.StatusMethodNotAllowed,
		detail: "plays are sent by POST",
		header: http.Header{"Allow": {http.MethodPost}},
		closes: true,
	}
}

// An ingestProblem is an error that is answered as RFC 9457 problem details.
type ingestProblem struct {
	status int
	detail string
	errors []*huma.ErrorDetail
	header http.Header
	// closes says that the rest of the body is not worth reading, so that the
	// connection cannot be used again.
	closes bool
}

func (p *ingestProblem) Error() string { return p.detail }

func (p *ingestProblem) write(w http.ResponseWriter, r *http.Request) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	if p.closes && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	details := make([]error, len(p.errors))
	for i, e := range p.errors {
		details[i] = e
	}
	writeIngestBody(w, "application/problem+json", p.status, huma.NewError(p.status, p.detail, details...))
}

func writeIngestBody(w http.ResponseWriter, contentType string, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have left
}

// ingestErrors gives err, a topk.FieldErrors, in the API's form, with the
// fields below location.
func ingestErrors(location string, err error) []*huma.ErrorDetail {
	var fields topk.FieldErrors
	if !errors.As(err, &fields) {
		return []*huma.ErrorDetail{{Message: err.Error(), Location: location}}
	}
	details := make([]*huma.ErrorDetail, len(fields))
	for i, f := range fields {
		details[i] = &huma.ErrorDetail{Message: f.Message, Location: location}
		if f.Field != "" {
			details[i].Location = location + "." + f.Field
		}
	}
	return details
}

type ingestMetrics struct {
	accepted, rejected, failed prometheus.Counter
	requests                   *prometheus.HistogramVec
	produce                    prometheus.Histogram
}

func newIngestMetrics(registerer prometheus.Registerer, budget *bodyBudget) ingestMetrics {
	factory := promauto.With(registerer)
	plays := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "topk_ingest_plays_total",
		Help: "Plays by what became of them: accepted (acknowledged by Kafka), rejected (break a rule), failed (not acknowledged in time).",
	}, []string{"result"})
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "topk_ingest_in_flight_bytes",
		Help: "Memory reserved for the bodies that are being handled.",
	}, func() float64 { return float64(budget.inUse.Load()) })
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	return ingestMetrics{
		accepted: plays.WithLabelValues("accepted"),
		rejected: plays.WithLabelValues("rejected"),
		failed:   plays.WithLabelValues("failed"),
		requests: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "topk_ingest_request_duration_seconds",
			Help:    "From a request's headers to its answer.",
			Buckets: buckets,
		}, []string{"endpoint", "code"}),
		produce: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "topk_ingest_produce_duration_seconds",
			Help:    "From a request's plays being handed to Kafka to the last acknowledgement.",
			Buckets: buckets,
		}),
	}
}
