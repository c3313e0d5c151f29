package source_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// send writes commands to a node and reads so many answers.
func send(t *testing.T, addr string, answers int, write func(w *bufio.Writer)) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(c, 1<<20)
	write(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(c); answers > 0; answers-- {
		line, err := r.ReadString('\n')
		if err != nil || line[0] == '-' {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

// A unit of 200 MB is in memory once: the source needs that and what it needs anyway.
func TestLargeUnitsPassInBoundedMemory(t *testing.T) {
	const members, bytesEach, base = 1_000_000, 200, 192 << 20
	versions := map[string]bool{"redis-7.0": false}
	if large() {
		versions["redis-8.6"] = true
	}
	for version, embedded := range versions {
		t.Run(version, func(t *testing.T) {
			w := testkit.New(t)
			c := w.ClusterWith(redistest.Config{Version: version, Masters: 3, Args: []string{"--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0"}})
			var addr string
			if embedded {
				addr = w.FakeKafka().Addr()
			} else {
				addr = w.Kafka().Addr()
			}
			kc, prefix := kafka.Config{Brokers: []string{addr}}, w.Name("u")
			p := binarySource(t, w, addr, prefix, c)()
			complete(w, t, kc, prefix, 3)
			idle := p.Usage()
			node, err := c.Owner(t.Context(), int(slot.Of([]byte("{u}set"))))
			if err != nil {
				t.Fatal(err)
			}
			filler := strings.Repeat("x", bytesEach-10)
			began := time.Now()
			send(t, node.Addr(), 1, func(w *bufio.Writer) {
				fmt.Fprintf(w, "*%d\r\n$4\r\nSADD\r\n$6\r\n{u}set\r\n", members+2)
				for i := range members {
					m := strconv.Itoa(1_000_000_000+i) + filler
					fmt.Fprintf(w, "$%d\r\n%s\r\n", len(m), m)
				}
			})
			// MULTI, 20,000 pushes of 10 KB, EXEC: the last answer is the first line of EXEC's.
			element := bytes.Repeat([]byte("y"), 10_000)
			send(t, node.Addr(), 20_002, func(w *bufio.Writer) {
				_, _ = w.Write(resp.AppendCommand(nil, "MULTI"))
				for range 20_000 {
					_, _ = w.Write(resp.AppendCommandBytes(nil, []byte("RPUSH"), []byte("{u}list"), element))
				}
				_, _ = w.Write(resp.AppendCommand(nil, "EXEC"))
			})
			if err := c.Client().Set(t.Context(), "{u}end", 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
			var r *reading
			w.Eventually(2*time.Minute, "published", func() error {
				r = readTopic(t, kc, prefix+".changes")
				if r.Counts[event.Unit] < 3 {
					return fmt.Errorf("%v", r.Counts)
				}
				return nil
			})
			used := p.Usage()
			t.Logf("%v; idle %d MiB, peak %d MiB, %v CPU; %v, %d chunks", time.Since(began), idle.RSSBytes>>20, used.PeakRSSBytes>>20, used.CPU, r.Counts, r.Chunks)
			if peak := used.PeakRSSBytes; peak > members*bytesEach+base {
				t.Errorf("the source used %d MiB for units of 200 MB", peak>>20)
			}
			p.Stop()
			if r.Abandoned != 0 || r.Chunks < 380 {
				t.Errorf("%d chunks, %d events given up", r.Chunks, r.Abandoned)
			}
		})
	}
}
