package loader

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// Optional are the fields of a play that can be left out.
var Optional = []string{"region", "deviceType", "context", "duration"}

const (
	// replayBatch is how many messages are corrected, sent and noted at once.
	replayBatch = 500
	// recognised is for how long a repeat is recognised for sure: the 48 hours
	// that event ids are kept, less half a day in which ClickHouse may be behind.
	recognised = 36 * time.Hour
	// maxEditedLine bounds a line of an edited export, in bytes: a message of a
	// megabyte, its play and its text with every byte escaped.
	maxEditedLine = 16 << 20
)

// A Publisher writes plays, whose users are hashed, to Kafka and gives for each
// nil once Kafka has it for good; *api.Publisher does.
type Publisher interface {
	Publish(ctx context.Context, plays []topk.Play) []error
}

// Rejected corrects rejected messages and sends them again. All fields but
// those said otherwise are required.
type Rejected struct {
	Queries   *queries.DB
	Publisher Publisher // nil for a dry run, which sends and notes nothing
	Rules     topk.Rules
	Clock     topk.Clock

	Filter topk.RejectedFilter // which messages; its Replayed is not heeded
	Drop   []string            // of Optional, to be left out where they are wrong
	Pepper []byte              // hashes user ids that came in the clear; nil leaves such messages alone
	Again  bool                // also those whose event was sent again before
	// Each is told every message and what came of it; nil for none. An error of
	// it ends the run.
	Each func(ReplayLine) error
}

// Run corrects and sends the messages that were rejected and not yet sent again,
// newest first. The report is right also beside an error.
//
// A message is noted once Kafka has it. One that was killed in between is sent
// again by the next run, and counts once: events that ClickHouse may have
// forgotten are looked for in the log first.
func (j Rejected) Run(ctx context.Context) (ReplayReport, error) {
	report := newReplayReport(j.Publisher == nil)
	waiting := false
	j.Filter.Replayed = &waiting
	var after topk.RejectedCursor
	for {
		page, err := j.Queries.Rejected(ctx, j.Filter, after, replayBatch)
		if err != nil {
			return report, err
		}
		corrections := make([]correction, len(page.Messages))
		for i, m := range page.Messages {
			corrections[i] = correction{message: m, text: m.Raw}
		}
		if err := j.replay(ctx, corrections, &report); err != nil {
			return report, err
		}
		if page.Next == nil {
			return report, nil
		}
		after = *page.Next
	}
}

// RunFrom sends corrected plays instead of rejected messages. Each line is a
// ReplayLine, as a dry run gives them to Each, of which the position and the
// play are read. An error names the line; the batches before it were sent.
func (j Rejected) RunFrom(ctx context.Context, in io.Reader) (ReplayReport, error) {
	report := newReplayReport(j.Publisher == nil)
	epochs, err := j.Queries.Epochs(ctx)
	if err != nil {
		return report, err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEditedLine)
	var batch []numberedLine
	flush := func() error {
		corrections, err := j.match(ctx, batch, epochs, &report)
		batch = batch[:0]
		if err != nil {
			return err
		}
		return j.replay(ctx, corrections, &report)
	}
	number := 0
	for lines.Scan() {
		number++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		line, err := parseReplayLine(text)
		if err != nil {
			return report, fmt.Errorf("line %d: %w", number, err)
		}
		if batch = append(batch, numberedLine{line, number}); len(batch) == replayBatch {
			if err := flush(); err != nil {
				return report, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return report, fmt.Errorf("line %d: %w", number+1, err)
	}
	return report, flush()
}

// A correction is a rejected message and the text to send instead.
type correction struct {
	message topk.Rejected
	text    []byte
}

type numberedLine struct {
	ReplayLine
	number int
}

// match finds the rejected messages that lines speak of. One that was sent again
// already, or that nobody corrected, is left out.
func (j Rejected) match(ctx context.Context, lines []numberedLine, epochs []queries.Epoch, report *ReplayReport) ([]correction, error) {
	var positions []topk.Position
	for _, l := range lines {
		positions = append(positions, l.positions(epochs)...)
	}
	messages, err := j.Queries.RejectedAt(ctx, positions)
	if err != nil {
		return nil, err
	}
	var corrections []correction
	for _, l := range lines {
		// The newest, when topics of one name have such an offset.
		var found *topk.Rejected
		for i, m := range messages {
			at := func(p topk.Position) bool { return p.Source == m.Source && p.Offset == m.Offset }
			if slices.ContainsFunc(l.positions(epochs), at) && (found == nil || m.Source > found.Source) {
				found = &messages[i]
			}
		}
		switch {
		case found == nil:
			return nil, fmt.Errorf("line %d: no message was rejected at partition %d, offset %d of topic %s in the last 14 days",
				l.number, l.Partition, l.Offset, l.Topic)
		case l.Play == nil:
			report.Uncorrected++
		case !found.ReplayedAt.IsZero() && !j.Again:
			report.ReplayedBefore++
		case found.EventID != "" && topk.EventIDOf(l.Play) != found.EventID:
			return nil, fmt.Errorf("line %d: the eventId must stay %s, so that the event cannot count twice", l.number, found.EventID)
		default:
			found.SentBefore = false // whoever corrects by hand knows
			corrections = append(corrections, correction{*found, l.Play})
		}
	}
	return corrections, nil
}

// replay corrects, sends and notes a batch.
func (j Rejected) replay(ctx context.Context, corrections []correction, report *ReplayReport) error {
	now := j.Clock()
	lines := make([]ReplayLine, len(corrections))
	plays := make([]topk.Play, len(corrections))
	good := make([]bool, len(corrections))
	for i, c := range corrections {
		var err error
		plays[i], err = j.correct(c.text, now)
		lines[i] = newReplayLine(c, plays[i], err)
		good[i] = err == nil
	}
	counted, err := j.alreadyCounted(ctx, plays, good, now)
	if err != nil {
		return err
	}
	var send []int
	for i, c := range corrections {
		switch {
		case !good[i]:
			lines[i].Outcome = outcomeWrong
		case counted[plays[i].EventID]:
			lines[i].Outcome = outcomeCounted
		case c.message.SentBefore && !j.Again:
			lines[i].Outcome = outcomeSentBefore
		default:
			lines[i].Outcome = outcomeSent
			send = append(send, i)
		}
	}
	var failed error
	if j.Publisher != nil {
		failed = j.send(ctx, corrections, plays, send, lines)
	}
	for i, line := range lines {
		report.count(line)
		if j.Each != nil {
			if err := j.Each(lines[i]); err != nil {
				return errors.Join(failed, err)
			}
		}
	}
	return failed
}

// send hands the chosen plays to Kafka, and notes those that it has.
func (j Rejected) send(ctx context.Context, corrections []correction, plays []topk.Play, chosen []int, lines []ReplayLine) error {
	batch := make([]topk.Play, len(chosen))
	for i, at := range chosen {
		batch[i] = plays[at]
	}
	var sent []topk.ReplayedMessage
	var failed error
	failures := 0
	for i, err := range j.Publisher.Publish(ctx, batch) {
		at := chosen[i]
		if err != nil {
			lines[at].Outcome = outcomeFailed
			failures++
			failed = err
			continue
		}
		sent = append(sent, topk.ReplayedMessage{Position: corrections[at].message.Position, EventID: batch[i].EventID})
	}
	// Also when the caller has gone: it spares sending them again.
	noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := j.Queries.MarkReplayed(noting, sent); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("%d messages were not acknowledged, run it again: %w", failures, failed)
	}
	return nil
}

// noteTimeout bounds noting what was sent.
const noteTimeout = 10 * time.Second

// alreadyCounted gives the events that the log has, of those that came in too
// long ago for a repeat to be recognised. A play cannot have come in before it
// was played, give or take a clock.
func (j Rejected) alreadyCounted(ctx context.Context, plays []topk.Play, good []bool, now time.Time) (map[string]bool, error) {
	from, to := now, now.Add(-recognised)
	var ids []string
	for i, p := range plays {
		if !good[i] {
			continue
		}
		if begin := p.Timestamp.Add(-j.Rules.MaxAhead - time.Hour); begin.Before(to) {
			ids = append(ids, p.EventID)
			if begin.Before(from) {
				from = begin
			}
		}
	}
	return j.Queries.InLog(ctx, ids, from, to)
}

// correct makes a play of a message by today's rules, as far as it is allowed
// to. The error is of type topk.FieldErrors.
func (j Rejected) correct(message []byte, now time.Time) (topk.Play, error) {
	play, err := topk.ParsePlay(message, j.Rules, now)
	var wrong topk.FieldErrors
	if errors.As(err, &wrong) {
		var drop []string
		for _, e := range wrong {
			if slices.Contains(j.Drop, e.Field) {
				drop = append(drop, e.Field)
			}
		}
		if len(drop) > 0 {
			if message, err = without(message, drop); err != nil {
				return play, wrong
			}
			play, err = topk.ParsePlay(message, j.Rules, now)
		}
	}
	switch {
	case err != nil:
		return play, err
	case topk.IsUserHash(play.UserID):
		return play, nil
	case j.Pepper == nil:
		return play, topk.FieldErrors{{Field: "userId", Message: "came in the clear, not as a hash"}}
	}
	play.UserID = topk.HashUser(j.Pepper, play.UserID)
	return play, nil
}

// without leaves fields out of a JSON object.
func without(object []byte, fields []string) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	for _, field := range fields {
		delete(all, field)
	}
	return json.Marshal(all)
}

// The outcomes of a message.
const (
	outcomeSent       = "sent"       // or would be, in a dry run
	outcomeWrong      = "wrong"      // it still breaks a rule
	outcomeCounted    = "counted"    // its event counts already
	outcomeSentBefore = "sentBefore" // its event was sent again once, and Again is not set
	outcomeFailed     = "failed"     // Kafka did not acknowledge it
)

// A ReplayLine is a rejected message and what is made of it, as one line of
// NDJSON that can be edited and given to RunFrom.
type ReplayLine struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    uint64 `json:"offset"`
	// Epoch tells apart topics of one name. When absent, the newest is meant.
	Epoch      *uint16   `json:"epoch,omitempty"`
	RejectedAt time.Time `json:"rejectedAt,omitzero"`
	Reason     string    `json:"reason,omitempty"`
	Outcome    string    `json:"outcome,omitempty"`
	Errors     []string  `json:"errors,omitempty"` // that are left
	// Play is what is sent; when it is still wrong, the message as it came, as
	// far as it is a JSON object.
	Play      json.RawMessage `json:"play,omitempty"`
	Raw       string          `json:"raw,omitempty"`
	RawBase64 []byte          `json:"rawBase64,omitempty"` // instead, when it is not UTF-8
}

func newReplayLine(c correction, play topk.Play, err error) ReplayLine {
	m := c.message
	epoch := m.Epoch()
	line := ReplayLine{
		Topic: m.Topic, Partition: m.Partition(), Offset: m.Offset, Epoch: &epoch, RejectedAt: m.At, Reason: m.Reason,
	}
	if utf8.Valid(m.Raw) {
		line.Raw = string(m.Raw)
	} else {
		line.RawBase64 = m.Raw
	}
	var wrong topk.FieldErrors
	switch {
	case errors.As(err, &wrong):
		for _, e := range wrong {
			line.Errors = append(line.Errors, e.Error())
		}
		if text := bytes.TrimSpace(c.text); utf8.Valid(text) && json.Valid(text) && text[0] == '{' {
			line.Play = text
		}
	case err == nil:
		// A play that is a play can be written.
		line.Play, _ = play.MarshalJSON()
	}
	return line
}

// parseReplayLine reads the position and the play of an edited line.
func parseReplayLine(text []byte) (ReplayLine, error) {
	var line struct {
		ReplayLine
		Partition *int32  `json:"partition"`
		Offset    *uint64 `json:"offset"`
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return ReplayLine{}, fmt.Errorf("must be a JSON object with topic, partition, offset and play: %w", err)
	}
	switch {
	case line.Topic == "" || line.Partition == nil || line.Offset == nil:
		return ReplayLine{}, errors.New("topic, partition and offset are required")
	case *line.Partition < 0 || *line.Partition > 0xffff:
		return ReplayLine{}, errors.New("partition must be from 0 to 65535")
	}
	if bytes.Equal(line.Play, []byte("null")) {
		line.Play = nil
	}
	line.ReplayLine.Partition, line.ReplayLine.Offset = *line.Partition, *line.Offset
	return line.ReplayLine, nil
}

// positions are where the line's message can be.
func (l ReplayLine) positions(epochs []queries.Epoch) []topk.Position {
	var positions []topk.Position
	for _, e := range epochs {
		if e.Topic == l.Topic && (l.Epoch == nil || *l.Epoch == e.Number) {
			positions = append(positions, topk.NewPosition(e.Number, e.Topic, l.Partition, int64(l.Offset)))
		}
	}
	return positions
}
