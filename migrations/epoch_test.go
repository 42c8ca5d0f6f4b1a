package migrations_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
)

// recreateTopic deletes the topic and makes it again, and gives the new id.
func (c *chain) recreateTopic() string {
	c.Helper()
	admin := kadm.NewClient(c.kafka)
	if _, err := admin.DeleteTopic(c.Context(), c.Topic); err != nil {
		c.Fatal(err)
	}
	var id string
	c.eventually("the topic exists again", func() bool {
		created, err := admin.CreateTopic(c.Context(), embeddedtest.Partitions, 1, nil, c.Topic)
		id = created.ID.String()
		return err == nil
	})
	// The producer remembers the partitions of the topic that is gone.
	c.kafka.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.DefaultProduceTopic(c.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(client.Close)
	c.kafka = client
	return id
}

func (c *chain) eventually(what string, holds func() bool) {
	c.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			c.Fatalf("still not: %s", what)
		}
		select {
		case <-c.Context().Done():
			c.Fatal(c.Context().Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// events are the messages of so many events of a name.
func (c *chain) events(name string, n int) []string {
	var messages []string
	for i := range n {
		messages = append(messages, message(c.T, fmt.Sprintf("%s-%d", name, i), nil))
	}
	return messages
}

// A topic that was deleted and made again has other offsets. Its plays count
// once the wiring has noticed, also those that were read before it had, at
// offsets that the old topic had used and at those it had not.
func TestTopicMadeAgain(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("old", 20)...)
	c.produce(1, c.events("old-1", 5)...)
	c.become("SELECT count() FROM plays", "25")

	id := c.recreateTopic()
	// Read as if it were the old topic: partition 0 is below what the log has of
	// it, partition 1 goes beyond.
	c.produce(0, c.events("new", 15)...)
	c.produce(1, append(c.events("new-1", 12), c.events("old", 3)...)...)
	c.become("SELECT count() FROM plays WHERE eventId LIKE 'new-1-%'", "7")

	c.wiring.TopicID = id
	c.up()
	c.become("SELECT count() FROM plays", "52")
	c.produce(0, c.events("newer", 10)...)
	c.become("SELECT count() FROM plays", "62")
	c.become("SELECT (count(), uniqExact(eventId)) FROM plays", "(62,62)")
	c.become("SELECT groupUniqArray(bitShiftRight(src, 16)) = [0, 1] OR groupUniqArray(bitShiftRight(src, 16)) = [1, 0] FROM plays", "1")
	c.become("SELECT sum(plays) FROM rollup_hour WHERE dim = 'global'", "62")
	c.become("SELECT sum(plays) FROM rollup_day WHERE dim = 'global'", "62")
	if got := c.value("SELECT groupArray((epoch, topicId)) FROM (SELECT * FROM epochs ORDER BY epoch)"); got != fmt.Sprintf("[(0,''),(1,'%s')]", id) {
		t.Errorf("epochs are %s", got)
	}
	// What somebody still remembers of the old topic does not bring it back.
	old := c.wiring
	old.TopicID = ""
	if rewired, err := migrations.Rewire(t.Context(), c.DSN, old); rewired || err != nil {
		t.Errorf("rewired to the old topic: %v %v", rewired, err)
	}
	// Nothing changes when nothing has changed.
	c.up()
	if got := c.value("SELECT count() FROM epochs"); got != "2" {
		t.Errorf("%s epochs", got)
	}
}
