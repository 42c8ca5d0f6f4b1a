package snapshot_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// startCluster runs a cluster of masters that share the slots evenly.
func startCluster(t *testing.T, masters int) []*server {
	t.Helper()
	const slots = 16384
	nodes := make([]*server, masters)
	for i := range nodes {
		nodes[i] = startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
			"--cluster-port", strconv.Itoa(freePort(t)))
		nodes[i].do(t, "CLUSTER", "ADDSLOTSRANGE",
			strconv.Itoa(slots*i/masters), strconv.Itoa(slots*(i+1)/masters-1))
		nodes[i].do(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, node := range nodes[1:] {
		nodes[0].do(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(node.port), node.clusterPort())
	}
	for _, node := range nodes {
		eventually(t, "the cluster is formed", func() bool {
			info := node.do(t, "CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters))
		})
	}
	return nodes
}

func (s *server) clusterPort() string { return s.args[len(s.args)-1] }

func TestCluster(t *testing.T) {
	nodes := startCluster(t, 3)
	store := open(t, nodes[0].url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	for version := 1; version <= 3; version++ {
		var charts []topk.Chart
		for i := range 60 {
			f := playlist(fmt.Sprint(i))
			charts = append(charts, chart(f, version, map[string]uint64{"a": uint64(i), "b": uint64(version)}))
		}
		if _, errs := p.put(t.Context(), charts...); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
		for _, c := range charts {
			wantChart(t, store, c)
		}
		for i, node := range nodes {
			if !strings.Contains(node.do(t, "INFO", "keyspace"), "db0:") {
				t.Errorf("node %d holds no charts", i)
			}
		}
		nodes[version-1].do(t, "FLUSHALL")
	}

	var keys []snapshot.Key
	for i := range 60 {
		keys = append(keys, snapshot.Key{Filter: playlist(fmt.Sprint(i)), Window: topk.Last24h})
	}
	if err := p.Remove(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	for i, node := range nodes {
		if n := node.do(t, "DBSIZE"); n != "0" {
			t.Errorf("node %d still holds %s keys", i, n)
		}
	}
	store.Want(playlist("1"), topk.Last24h)
	wantWanted(t, p.Publisher, noon, "playlist:1 24h")
}

// With one shard away its charts fail, and the charts of the others are served
// and published.
func TestClusterWithoutOneShard(t *testing.T) {
	nodes := startCluster(t, 3)
	for _, node := range nodes {
		node.do(t, "CONFIG", "SET", "cluster-require-full-coverage", "no")
	}
	store := open(t, nodes[0].url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{Batch: 60})
	var charts []topk.Chart
	for i := range 60 {
		f := playlist(fmt.Sprint(i))
		charts = append(charts, chart(f, 1, map[string]uint64{"a": uint64(i)}))
	}
	nodes[2].kill()
	published, failed := 0, 0
	_, errs := p.put(t.Context(), charts...)
	for i, err := range errs {
		switch {
		case err == nil:
			published++
			wantChart(t, store, charts[i])
		case errors.Is(err, topk.ErrUnavailable):
			failed++
			wantGetError(t, store, charts[i].Filter, topk.ErrUnavailable)
		default:
			t.Errorf("chart %d: %v", i, err)
		}
	}
	if published == 0 || failed == 0 {
		t.Errorf("%d published, %d failed", published, failed)
	}
}
