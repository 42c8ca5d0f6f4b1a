package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/migrations"
)

type clickhouseFlags struct {
	ClickhouseURL string `name:"clickhouse-url" help:"ClickHouse, with the database as path." default:"http://127.0.0.1:8123/topk" env:"TOPK_CLICKHOUSE_URL"`
}

func (f clickhouseFlags) check() error {
	return checkURL("--clickhouse-url", f.ClickhouseURL, "http", "https", "clickhouse")
}

type redisFlags struct {
	RedisURL string `name:"redis-url" help:"Redis; rediss:// for TLS." default:"redis://127.0.0.1:6379" env:"TOPK_REDIS_URL"`
}

func (f redisFlags) check() error { return checkURL("--redis-url", f.RedisURL, "redis", "rediss") }

func checkURL(flag, value string, schemes ...string) error {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("%s must be %s://host:port, not %q", flag, strings.Join(schemes, ":// or "), value)
	}
	return nil
}

type topicFlag struct {
	Topic string `help:"Topic of the plays." default:"plays" env:"TOPK_TOPIC"`
}

type topicFlags struct {
	topicFlag
	Partitions int32 `help:"Partitions of the topic, when it is created." default:"8" env:"TOPK_PARTITIONS"`
	Replicas   int16 `help:"Replicas of the topic, when it is created." default:"1" env:"TOPK_REPLICAS"`
}

func (f topicFlags) check() error {
	if f.Topic == "" || f.Partitions < 1 || f.Replicas < 1 {
		return errors.New("--topic must not be empty, --partitions and --replicas must be at least 1")
	}
	return nil
}

// group is ClickHouse's consumer group.
func (f topicFlag) group() string { return "topk-" + f.Topic }

type brokerFlags struct {
	KafkaBrokers []string `help:"Kafka brokers, as host:port,host:port." default:"127.0.0.1:9092" env:"TOPK_KAFKA_BROKERS"`
}

func (f brokerFlags) check() error { return checkAddresses("--kafka-brokers", f.KafkaBrokers) }

func checkAddresses(flag string, addresses []string) error {
	if len(addresses) == 0 {
		return fmt.Errorf("%s must not be empty", flag)
	}
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("%s: %q is not host:port", flag, a)
		}
	}
	return nil
}

type ruleFlags struct {
	MaxAhead       time.Duration `help:"How far ahead of the clock a play's time may be." default:"5m" env:"TOPK_MAX_AHEAD"`
	MaxAge         time.Duration `help:"How old a play may be." default:"168h" env:"TOPK_MAX_AGE"`
	MinPlaySeconds int           `help:"Plays that say they were shorter are kept but not counted." default:"0" env:"TOPK_MIN_PLAY_SECONDS"`
}

func (f ruleFlags) rules() topk.Rules { return topk.Rules{MaxAhead: f.MaxAhead, MaxAge: f.MaxAge} }

func (f ruleFlags) check() error {
	if f.MaxAhead < 0 || f.MaxAge <= 0 || f.MinPlaySeconds < 0 {
		return errors.New("--max-ahead and --min-play-seconds must not be negative, and --max-age must be more than 0")
	}
	return nil
}

// chainFlags are what the chain from Kafka through ClickHouse is made of. They
// must be the same in every role that has them.
type chainFlags struct {
	topicFlags
	ruleFlags
	clickhouseFlags
	brokerFlags
	ClickhouseKafkaBrokers []string `help:"Kafka brokers as ClickHouse reaches them, when that differs." env:"TOPK_CLICKHOUSE_KAFKA_BROKERS"`
}

func (f chainFlags) check() error {
	return errors.Join(f.topicFlags.check(), f.ruleFlags.check(), f.clickhouseFlags.check(), f.brokerFlags.check())
}

// wiring is what ClickHouse is told of Kafka and of the topic with the id.
func (f chainFlags) wiring(topicID string) migrations.Wiring {
	brokers := f.ClickhouseKafkaBrokers
	if len(brokers) == 0 {
		brokers = f.KafkaBrokers
	}
	return migrations.Wiring{
		Brokers:        brokers,
		Topic:          f.Topic,
		TopicID:        topicID,
		Group:          f.group(),
		Rules:          f.rules(),
		MinPlaySeconds: f.MinPlaySeconds,
	}
}

type calendarFlags struct {
	WeekStart string `help:"First day of a week." enum:"monday,tuesday,wednesday,thursday,friday,saturday,sunday" default:"friday" env:"TOPK_WEEK_START"`
}

func (f calendarFlags) calendar() topk.Calendar {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(day.String(), f.WeekStart) {
			return topk.Calendar{WeekStart: day}
		}
	}
	return topk.DefaultCalendar()
}

// minPepper is how many bytes a secret must have not to be guessed.
const minPepper = 16

type pepperFlags struct {
	UserPepper     string `help:"Secret that user ids are hashed with; the same in every role and for ever." env:"TOPK_USER_PEPPER"`
	UserPepperFile string `help:"File with that secret." type:"path" env:"TOPK_USER_PEPPER_FILE"`
}

// pepper reads the secret.
func (f pepperFlags) pepper() ([]byte, error) {
	pepper := []byte(f.UserPepper)
	if f.UserPepper == "" && f.UserPepperFile != "" {
		text, err := os.ReadFile(f.UserPepperFile)
		if err != nil {
			return nil, fmt.Errorf("--user-pepper-file: %w", err)
		}
		pepper = bytes.TrimSpace(text)
	}
	if len(pepper) < minPepper {
		return nil, fmt.Errorf("user ids are hashed with a secret of at least %d bytes: "+
			"set --user-pepper-file or TOPK_USER_PEPPER (topk up keeps its own in DATA/pepper)", minPepper)
	}
	return pepper, nil
}
