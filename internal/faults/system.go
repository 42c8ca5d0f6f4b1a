// Package faults runs a whole deployment as processes of their own, each of
// which can be killed and started again, with a proxy between each pair that
// can make the network as bad as wanted. Tests use it to prove that nothing is
// lost and nothing counted twice.
package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	proxies "github.com/Shopify/toxiproxy/v2/client"
)

// Config says what a System is made of.
type Config struct {
	Dir string
	// Topk and Engine start the program and RunEngine: the test binary itself,
	// told which by its environment.
	Topk, Engine Command
	// RealKafka runs a broker of Apache Kafka instead of the embedded one. Only
	// with it a proxy stands between Kafka and its clients.
	RealKafka bool
	// Partitions of the topic.
	Partitions int
	// Direct leaves out the proxies, for measurements.
	Direct bool
	// WithoutRefresh leaves it to the caller to start System.Refresh.
	WithoutRefresh bool
}

// The pairs with a proxy between them.
const (
	ClientGateway       = "client-gateway"
	GatewayKafka        = "gateway-kafka"
	ClickHouseKafka     = "clickhouse-kafka"
	APIClickHouse       = "api-clickhouse"
	APIRedis            = "api-redis"
	RefresherClickHouse = "refresher-clickhouse"
	RefresherRedis      = "refresher-redis"
)

// A System is a running deployment.
type System struct {
	ClickHouse, Kafka, Redis, Serve, Refresh, Schedule *Process

	// URL is the API, ProxiedURL the same through ClientGateway.
	URL, ProxiedURL string
	// ClickHouseURL has the database as path. These three are not proxied.
	ClickHouseURL, RedisURL, Broker string
	PepperFile                      string
	RefreshURL                      string // of the refresher's metrics

	config  Config
	flags   []string // of every command that needs ClickHouse and Kafka, not proxied
	server  *Process
	proxies map[string]*proxies.Proxy
}

// Start runs everything and waits until it is ready.
func Start(ctx context.Context, cfg Config) (_ *System, err error) {
	ports, err := freePorts(19)
	if err != nil {
		return nil, err
	}
	next := func() string { a := ports[0]; ports = ports[1:]; return a }
	s := &System{config: cfg, proxies: map[string]*proxies.Proxy{}, PepperFile: filepath.Join(cfg.Dir, "pepper")}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := os.WriteFile(s.PepperFile, []byte("the pepper of the fault tests"), 0o600); err != nil {
		return nil, err
	}
	clickhouse, redis, serve, refresh, schedule := next(), next(), next(), next(), next()
	broker := brokerAddrs{controller: next(), test: next(), gateway: next(), clickhouse: next()}
	s.URL, s.ClickHouseURL, s.RedisURL, s.Broker = "http://"+serve, "http://"+clickhouse+"/topk", "redis://"+redis, broker.test
	s.RefreshURL = "http://" + refresh

	upstreams := map[string]string{
		ClientGateway: serve, APIClickHouse: clickhouse, RefresherClickHouse: clickhouse, APIRedis: redis, RefresherRedis: redis,
	}
	if cfg.RealKafka {
		upstreams[GatewayKafka], upstreams[ClickHouseKafka] = broker.gateway, broker.clickhouse
	}
	s.ProxiedURL = s.URL
	if !cfg.Direct {
		if err := s.startProxies(ctx, next(), upstreams, next); err != nil {
			return nil, err
		}
		s.ProxiedURL = "http://" + s.proxies[ClientGateway].Listen
	}
	gatewayBroker, clickhouseBroker := broker.test, broker.test
	if cfg.RealKafka {
		broker.gatewayProxy, broker.clickhouseProxy = s.proxies[GatewayKafka].Listen, s.proxies[ClickHouseKafka].Listen
		gatewayBroker, clickhouseBroker = broker.gatewayProxy, broker.clickhouseProxy
	}

	kafka := s.engine(kfakeEngine, broker.test)
	if cfg.RealKafka {
		if kafka, err = realKafka(filepath.Join(cfg.Dir, "kafka"), broker); err != nil {
			return nil, err
		}
	}
	s.Kafka = s.process("kafka", kafka, kafkaAnswers(broker.test))
	s.Redis = s.process("redis", redisServer(filepath.Join(cfg.Dir, "redis"), redis), redisAnswers(redis))
	s.ClickHouse = s.process("clickhouse", s.engine(clickhouseEngine, clickhouse), answers("http://"+clickhouse+"/ping"))
	s.Serve = s.process("serve", s.topk("serve", "--listen", serve, "--user-pepper-file", s.PepperFile,
		"--clickhouse-url", s.throughProxy(APIClickHouse, s.ClickHouseURL), "--redis-url", s.throughProxy(APIRedis, s.RedisURL),
		"--kafka-brokers", gatewayBroker, "--rate-limit", "0"), answers(s.URL+"/healthz"))
	s.Refresh = s.Refresher("refresh", cfg.Topk)
	s.flags = []string{
		"--clickhouse-url", s.ClickHouseURL, "--kafka-brokers", s.Broker,
		"--clickhouse-kafka-brokers", clickhouseBroker, "--partitions", fmt.Sprint(cfg.Partitions),
	}
	s.Schedule = s.process("schedule", s.topk(append([]string{"load", "schedule", "--listen", schedule, "--reconcile-schedule", "@every 24h", "--redis-url", s.RedisURL}, s.flags...)...),
		answers("http://"+schedule+"/healthz"))
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "redis"), 0o700); err != nil {
		return nil, err
	}
	for _, p := range []*Process{s.Kafka, s.Redis, s.ClickHouse} {
		if err := p.Start(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := s.Run(ctx, nil, append([]string{"migrate"}, s.flags...)...); err != nil {
		return nil, err
	}
	roles := []*Process{s.Serve, s.Refresh, s.Schedule}
	if cfg.WithoutRefresh {
		roles = []*Process{s.Serve, s.Schedule}
	}
	for _, p := range roles {
		if err := p.Start(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Refresher is a process that may run in place of Refresh: a program that takes
// the same arguments as topk.
func (s *System) Refresher(name string, program Command) *Process {
	program.Args = append(slices.Clone(program.Args), "refresh", "--listen", strings.TrimPrefix(s.RefreshURL, "http://"),
		"--clickhouse-url", s.throughProxy(RefresherClickHouse, s.ClickHouseURL),
		"--redis-url", s.throughProxy(RefresherRedis, s.RedisURL))
	return s.process(name, program, answers(s.RefreshURL+"/healthz"))
}

// Processes are those that may be killed.
func (s *System) Processes() []*Process {
	return []*Process{s.ClickHouse, s.Kafka, s.Redis, s.Serve, s.Refresh, s.Schedule}
}

// ChainFlags are the flags of commands that need ClickHouse and Kafka.
func (s *System) ChainFlags() []string { return slices.Clone(s.flags) }

// Close kills everything.
func (s *System) Close() {
	for _, p := range append(s.Processes(), s.server) {
		if p != nil {
			p.Kill()
		}
	}
}

// Run runs a command of the program to its end and gives what it wrote.
func (s *System) Run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	c := s.topk(args...)
	command := exec.CommandContext(ctx, c.Path, c.Args...)
	command.Env = append(os.Environ(), c.Env...)
	command.Stdin = stdin
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("topk %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (s *System) process(name string, c Command, ready func(context.Context) error) *Process {
	return &Process{Name: name, command: c, logPath: filepath.Join(s.config.Dir, name+".log"), ready: ready}
}

func (s *System) topk(args ...string) Command {
	c := s.config.Topk
	c.Args = append(slices.Clone(c.Args), args...)
	return c
}

func (s *System) engine(name, addr string) Command {
	c := s.config.Engine
	c.Args = append(slices.Clone(c.Args), name, filepath.Join(s.config.Dir, name), addr)
	return c
}

func (s *System) startProxies(ctx context.Context, addr string, upstreams map[string]string, next func() string) error {
	client := proxies.NewClient(addr)
	s.server = s.process("proxies", s.engine(proxiesEngine, addr), func(context.Context) error {
		_, err := client.Proxies()
		return err
	})
	if err := s.server.Start(ctx); err != nil {
		return err
	}
	for name, upstream := range upstreams {
		proxy, err := client.CreateProxy(name, next(), upstream)
		if err != nil {
			return fmt.Errorf("proxy %s: %w", name, err)
		}
		s.proxies[name] = proxy
	}
	return nil
}

// throughProxy gives the URL with the proxy's address as host, if there is one.
func (s *System) throughProxy(pair, url string) string {
	if s.config.Direct {
		return url
	}
	scheme, rest, _ := strings.Cut(url, "://")
	_, path, hasPath := strings.Cut(rest, "/")
	url = scheme + "://" + s.proxies[pair].Listen
	if hasPath {
		url += "/" + path
	}
	return url
}

// A Trouble is what can be wrong with the network between a pair.
type Trouble struct {
	Name, toxic, stream string
	attributes          proxies.Attributes
}

// Troubles are those that Disturb knows.
var Troubles = []Trouble{
	{Name: "cut"},
	{"slow", "latency", "downstream", proxies.Attributes{"latency": 300, "jitter": 200}},
	{"silent", "timeout", "downstream", proxies.Attributes{"timeout": 0}},
	{"silent upstream", "timeout", "upstream", proxies.Attributes{"timeout": 0}},
	{"reset", "reset_peer", "downstream", proxies.Attributes{"timeout": 50}},
	{"narrow", "bandwidth", "upstream", proxies.Attributes{"rate": 20}},
	{"sliced", "slicer", "downstream", proxies.Attributes{"average_size": 200, "size_variation": 150, "delay": 200}},
	{"limited", "limit_data", "downstream", proxies.Attributes{"bytes": 3000}},
}

// Pairs are the pairs with a proxy, sorted.
func (s *System) Pairs() []string {
	var names []string
	for name := range s.proxies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Disturb makes trouble between a pair until mend is called.
func (s *System) Disturb(pair string, t Trouble) (mend func() error, err error) {
	proxy := s.proxies[pair]
	if t.toxic == "" {
		return proxy.Enable, proxy.Disable()
	}
	_, err = proxy.AddToxic("trouble", t.toxic, t.stream, 1, t.attributes)
	return func() error { return proxy.RemoveToxic("trouble") }, err
}

// redisServer is as in `topk up`.
func redisServer(dir, addr string) Command {
	host, port, _ := net.SplitHostPort(addr)
	return Command{Path: "redis-server", Args: []string{
		"--bind", host, "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
	}}
}

func redisAnswers(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		answer := make([]byte, len("+PONG"))
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+PONG" {
			return fmt.Errorf("redis answers %q: %w", answer, errors.Join(err, errors.ErrUnsupported))
		}
		return nil
	}
}

func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, res.Status)
		}
		return nil
	}
}

// freePorts finds addresses that nobody listens on, below the range from which
// the kernel takes ports of outgoing connections: a process that is down for a
// moment must find its own free when it comes back.
func freePorts(n int) ([]string, error) {
	const first, last = 10_000, 32_000
	var free []string
	for range 100 * n {
		if len(free) == n {
			return free, nil
		}
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		if !slices.Contains(free, addr) {
			free = append(free, addr)
		}
	}
	return nil, errors.New("no free ports")
}
