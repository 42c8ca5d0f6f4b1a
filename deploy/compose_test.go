package deploy

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = ".."

func read(t *testing.T, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// project loads the compose file as docker compose would, with its own checks.
func project(t *testing.T, environment map[string]string) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  root,
		ConfigFiles: []types.ConfigFile{{Filename: "docker-compose.yml", Content: read(t, "docker-compose.yml")}},
		Environment: environment,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeServices(t *testing.T) {
	p := project(t, nil)
	const healthy, done = types.ServiceConditionHealthy, types.ServiceConditionCompletedSuccessfully
	want := map[string]struct {
		image     string
		command   string // first word, of our own roles
		dependsOn map[string]string
	}{
		"kafka":      {image: "apache/kafka:4.4.0"},
		"clickhouse": {image: "clickhouse/clickhouse-server:26.7"},
		"redis":      {image: "redis:7"},
		"migrate":    {"topk", "migrate", map[string]string{"kafka": healthy, "clickhouse": healthy}},
		"serve":      {"topk", "serve", map[string]string{"kafka": healthy, "clickhouse": healthy, "redis": healthy, "migrate": done}},
		"load":       {"topk", "load", map[string]string{"kafka": healthy, "clickhouse": healthy, "redis": healthy, "migrate": done}},
		"refresh":    {"topk", "refresh", map[string]string{"clickhouse": healthy, "redis": healthy, "migrate": done}},
	}
	if len(p.Services) != len(want) {
		t.Errorf("services %v", p.ServiceNames())
	}
	for name, w := range want {
		service, err := p.GetService(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if service.Image != w.image {
			t.Errorf("%s has the image %s, want %s", name, service.Image, w.image)
		}
		if w.command != "" && (len(service.Command) == 0 || service.Command[0] != w.command) {
			t.Errorf("%s runs %v", name, service.Command)
		}
		if len(service.DependsOn) != len(w.dependsOn) {
			t.Errorf("%s depends on %v, want %v", name, service.DependsOn, w.dependsOn)
		}
		for dependency, condition := range w.dependsOn {
			if got := service.DependsOn[dependency].Condition; got != condition {
				t.Errorf("%s waits for %s to be %q, want %q", name, dependency, got, condition)
			}
		}
		for dependency, d := range service.DependsOn {
			if d.Condition == healthy && p.Services[dependency].HealthCheck == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, dependency)
			}
		}
		if name != "migrate" && service.HealthCheck == nil {
			t.Errorf("%s has no health check", name)
		}
	}
}

func TestComposePublishesOnLoopbackOnly(t *testing.T) {
	for name, service := range project(t, nil).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q", name, port.Published, port.HostIP)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
	}
}

// A variable with a wrong name would be ignored without a word.
func TestComposeNamesSettingsThatExist(t *testing.T) {
	known := knownSettings(t)
	p := project(t, nil)
	for _, role := range []string{"migrate", "serve", "refresh"} {
		for variable := range p.Services[role].Environment {
			if !slices.Contains(known, variable) {
				t.Errorf("%s sets %s, which topk does not know: %v", role, variable, known)
			}
		}
		for _, variable := range []string{"TOPK_CLICKHOUSE_URL", "TOPK_KAFKA_BROKERS", "TOPK_REDIS_URL"} {
			if p.Services[role].Environment[variable] == nil {
				t.Errorf("%s lacks %s", role, variable)
			}
		}
	}
	for _, match := range regexp.MustCompile(`TOPK_[A-Z_]+`).FindAllString(string(read(t, "Dockerfile")), -1) {
		if !slices.Contains(known, match) {
			t.Errorf("the Dockerfile sets %s, which topk does not know", match)
		}
	}
}

// knownSettings lists the environment variables in the program's flags.
func knownSettings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "cmd", "topk", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources of cmd/topk: %v", err)
	}
	var names []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`env:"(TOPK_[A-Z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			names = append(names, match[1])
		}
	}
	return names
}

func TestComposeSecrets(t *testing.T) {
	p := project(t, map[string]string{"CLICKHOUSE_PASSWORD": "from-outside"})
	serve := p.Services["serve"]
	if len(serve.Secrets) != 1 || serve.Secrets[0].Source != "user-pepper" ||
		*serve.Environment["TOPK_USER_PEPPER_FILE"] != "/run/secrets/"+serve.Secrets[0].Source {
		t.Errorf("serve has the secrets %+v", serve.Secrets)
	}
	for _, role := range []string{"migrate", "serve", "refresh"} {
		if url := *p.Services[role].Environment["TOPK_CLICKHOUSE_URL"]; url != "http://topk:from-outside@clickhouse:8123/topk" {
			t.Errorf("%s reaches ClickHouse by %s", role, url)
		}
	}
	if password := *p.Services["clickhouse"].Environment["CLICKHOUSE_PASSWORD"]; password != "from-outside" {
		t.Errorf("ClickHouse has the password %s", password)
	}
	// What is secret is neither in the repository nor in the image.
	for file, line := range map[string]string{"deploy/secrets/.gitignore": "*", ".dockerignore": "deploy/secrets"} {
		if !slices.Contains(strings.Split(string(read(t, file)), "\n"), line) {
			t.Errorf("%s does not have %q", file, line)
		}
	}
}

// Kafka tells clients where to find it: each by the name it can reach.
func TestComposeKafkaListeners(t *testing.T) {
	p := project(t, nil)
	kafka := p.Services["kafka"].Environment
	advertised := *kafka["KAFKA_ADVERTISED_LISTENERS"]
	brokers := *p.Services["serve"].Environment["TOPK_KAFKA_BROKERS"]
	for _, want := range []string{"INTERNAL://" + brokers, "HOST://127.0.0.1:9092"} {
		if !slices.Contains(strings.Split(advertised, ","), want) {
			t.Errorf("advertised %s, want %s", advertised, want)
		}
	}
	if port := p.Services["kafka"].Ports[0]; port.Target != 9092 || port.Published != "9092" {
		t.Errorf("published %+v", port)
	}
}

func TestClickHouseConfigIsWellFormed(t *testing.T) {
	var kafka struct {
		Kafka struct {
			SessionTimeout  int `xml:"session_timeout_ms"`
			MetadataRefresh int `xml:"topic_metadata_refresh_interval_ms"`
			Instance        struct {
				FromEnv string `xml:"from_env,attr"`
			} `xml:"group_instance_id"`
		} `xml:"kafka"`
	}
	if err := xml.Unmarshal(read(t, "deploy", "clickhouse", "config.d", "kafka.xml"), &kafka); err != nil {
		t.Fatal(err)
	}
	if kafka.Kafka.SessionTimeout != 6000 || kafka.Kafka.MetadataRefresh != 5000 {
		t.Errorf("%+v", kafka)
	}
	if p := project(t, nil); p.Services["clickhouse"].Environment[kafka.Kafka.Instance.FromEnv] == nil {
		t.Errorf("ClickHouse is not told %q", kafka.Kafka.Instance.FromEnv)
	}
	var rocksdb struct {
		Filter string `xml:"rocksdb>block_based_table_options>filter_policy"`
	}
	if err := xml.Unmarshal(read(t, "deploy", "clickhouse", "config.d", "rocksdb.xml"), &rocksdb); err != nil || rocksdb.Filter == "" {
		t.Errorf("%+v, %v", rocksdb, err)
	}
}

// Scripts at least parse: a typo shows before somebody runs them.
func TestScriptsParse(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root, "scripts", "*.sh"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range append(scripts, filepath.Join(root, ".ci", "run")) {
		if out, err := exec.CommandContext(t.Context(), "bash", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		info, err := os.Stat(script)
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", script, err)
		}
	}
}
