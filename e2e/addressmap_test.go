package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// announceElsewhere has every node of a cluster tell clients an address where nothing listens, and returns the map from
// those to where the nodes are, as the option redis.address.map takes it. back ends it.
func announceElsewhere(t *testing.T, w *testkit.World, c *redistest.Cluster) (addressMap string, back func()) {
	t.Helper()
	var pairs []string
	set := func(n *redistest.Node, port int) {
		if err := n.Client().ConfigSet(t.Context(), "cluster-announce-port", strconv.Itoa(port)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Masters() {
		port := w.Port()
		set(n, port)
		pairs = append(pairs, fmt.Sprintf("%s=%s", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), n.Addr()))
	}
	heard := func(want bool) {
		w.Eventually(20*time.Second, "the nodes have heard of it", func() error {
			for _, n := range c.Masters() {
				view, err := n.Client().ClusterNodes(t.Context()).Result()
				if err != nil {
					return err
				}
				for _, pair := range pairs {
					if told, _, _ := strings.Cut(pair, "="); strings.Contains(view, told+"@") != want {
						return errors.New(view)
					}
				}
			}
			return nil
		})
	}
	heard(true)
	return strings.Join(pairs, ","), func() {
		for _, n := range c.Masters() {
			set(n, 0)
		}
		heard(false)
	}
}

// Both clusters tell addresses that cannot be reached from here, as behind NAT: without a map that is said, with one
// everything goes as usual.
func TestClustersBehindAnAddressMap(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	source, target := sourceCluster(w, 2, 0), w.Cluster(2, 0)
	for i := range 1000 {
		if err := source.Client().Set(t.Context(), fmt.Sprint("before:", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := newPipeline(t, w, w.FakeKafka().Addr(), source)
	sourceMap, sourceBack := announceElsewhere(t, w, source)
	targetMap, targetBack := announceElsewhere(t, w, target)

	told, _, _ := strings.Cut(sourceMap, "=")
	unmapped := p.run(p.sourceConfig())
	w.Eventually(time.Minute, "the address and the way out are named", func() error {
		if log := unmapped.Log(); !strings.Contains(log, told) || !strings.Contains(log, "redis.address.map") {
			return errors.New(unmapped.LogTail(2))
		}
		return nil
	})
	unmapped.Stop()

	from := p.run(p.sourceConfig("redis.address.map", sourceMap))
	into := p.run(p.sinkConfig("into", target, "redis.address.map", targetMap))
	for r, said := range map[*testkit.Redriver]string{from: "msg=streaming", into: "sink is up to date"} {
		w.Eventually(time.Minute, said, func() error {
			if !strings.Contains(r.Log(), said) {
				return errors.New(r.LogTail(2))
			}
			return nil
		})
	}
	sourceBack() // the clients of this test have no map
	targetBack()
	stop := writers(t, source.Client(), 2, 300)
	time.Sleep(500 * time.Millisecond)
	t.Logf("%d commands written", stop())
	p.mark(target.Client(), time.Minute)
	from.Stop()
	into.Stop()
	identical(t, source, target)
}
