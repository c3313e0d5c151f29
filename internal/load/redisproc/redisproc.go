// Package redisproc starts real redis-server processes for tests: clusters of a few masters on loopback. It is the
// smallest thing that tests of one package need; it is not a world with failovers and Kafka.
//
// The binary is redis-server in $REDRIVER_REDIS_BIN, or in PATH. Without one the test fails: a skipped test of a
// real server proves nothing.
package redisproc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster starts a cluster of n masters without replicas, slots shared evenly, and returns a client of it. All ends
// with the test.
func Cluster(t testing.TB, n int) *redis.ClusterClient {
	t.Helper()
	nodes := make([]*redis.Client, n)
	addrs := make([]string, n)
	for i := range n {
		addrs[i] = start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		nodes[i] = redis.NewClient(&redis.Options{Addr: addrs[i]})
		t.Cleanup(func() { _ = nodes[i].Close() })
	}
	for i, c := range nodes {
		must(t, c.Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		must(t, c.Do(t.Context(), "cluster", "addslotsrange", i*16384/n, (i+1)*16384/n-1).Err())
		host, port, err := net.SplitHostPort(addrs[0])
		must(t, err)
		must(t, c.ClusterMeet(t.Context(), host, port).Err())
	}
	for _, c := range nodes {
		poll(t, func() error {
			info, err := c.ClusterInfo(t.Context()).Result()
			if err != nil {
				return err
			}
			var known int
			shards, err := c.ClusterShards(t.Context()).Result()
			for _, s := range shards {
				if len(s.Slots) > 0 {
					known++
				}
			}
			if err == nil && known != n {
				err = fmt.Errorf("%d of %d masters known: %s", known, n, info)
			}
			if err == nil && c.Get(t.Context(), "x").Err() != nil && known == 1 {
				err = c.Get(t.Context(), "x").Err()
				if err == redis.Nil { //nolint:errorlint // a bare reply
					err = nil
				}
			}
			return err
		})
	}
	cc := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = cc.Close() })
	poll(t, func() error { return cc.Set(t.Context(), "x", "", time.Millisecond).Err() })
	return cc
}

// Single starts a server that is no cluster.
func Single(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: start(t)})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// start runs a server until the test ends and returns its address.
func start(t testing.TB, args ...string) string {
	t.Helper()
	bin := "redis-server"
	if dir := os.Getenv("REDRIVER_REDIS_BIN"); dir != "" {
		bin = filepath.Join(dir, bin)
	}
	bin, err := exec.LookPath(bin)
	if err != nil {
		t.Fatalf("no redis-server: put it in PATH or name its folder in REDRIVER_REDIS_BIN: %v", err)
	}
	// Another process may take the port between our look and the server's bind: then the server ends, try another.
	for range 10 {
		port := freePort(t)
		cmd := exec.Command(bin, append([]string{ //nolint:noctx // ended by Cleanup
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "",
			"--appendonly", "no", "--daemonize", "no", "--logfile", "redis.log", "--enable-debug-command", "yes",
		}, args...)...)
		must(t, cmd.Start())
		ended := make(chan struct{})
		// Ends when the server does, at the latest by the Kill below.
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if up(t, addr, ended) {
			return addr
		}
	}
	t.Fatal("redis-server does not start")
	return ""
}

func up(t testing.TB, addr string, ended <-chan struct{}) bool {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer func() { _ = c.Close() }()
	for range 200 {
		if c.Ping(t.Context()).Err() == nil {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(25 * time.Millisecond):
		}
	}
	return false
}

// freePort finds a port whose cluster bus, 10000 above, is a port too and free.
func freePort(t testing.TB) int {
	for range 200 {
		port := 20000 + rand.IntN(35000)
		if canListen(t, port) && canListen(t, port+10000) {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func canListen(t testing.TB, port int) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func poll(t testing.TB, fn func() error) {
	t.Helper()
	var err error
	for range 1200 {
		if err = fn(); err == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("cluster does not come up: %v", err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
