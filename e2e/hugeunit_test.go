package e2e_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/verify"
)

// hugeUnit is one command or transaction of many megabytes.
type hugeUnit struct {
	name    string
	answers int // lines
	write   func(w *bufio.Writer)
}

// hugeUnits are in tests a tenth of what make large carries.
func hugeUnits(scale int) []hugeUnit {
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 46)
	element := func(i int) string { // 100 bytes that do not pack well
		_, _ = rng.Read(noise)
		return fmt.Sprintf("%08d%x", i, noise)
	}
	return []hugeUnit{
		{fmt.Sprintf("SET of %d MB", 30*scale), 1, func(w *bufio.Writer) {
			fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$%d\r\n", 30_000_000*scale)
			piece := make([]byte, 1000)
			for range 30_000 * scale {
				_, _ = rng.Read(piece) // never fails
				_, _ = w.Write(piece)
			}
			fmt.Fprint(w, "\r\n")
		}},
		{fmt.Sprintf("RPUSH of %d elements, %d MB", 100_000*scale, 10*scale), 1, func(w *bufio.Writer) {
			fmt.Fprintf(w, "*%d\r\n$5\r\nRPUSH\r\n$4\r\nhuge\r\n", 2+100_000*scale)
			for i := range 100_000 * scale {
				fmt.Fprintf(w, "$100\r\n%s\r\n", element(i))
			}
		}},
		{fmt.Sprintf("MULTI of %d commands", 30_000*scale), 2 + 2*30_000*scale, func(w *bufio.Writer) {
			fmt.Fprint(w, "MULTI\r\n")
			for i := range 30_000 * scale {
				fmt.Fprintf(w, "*3\r\n$6\r\nAPPEND\r\n$%d\r\n{huge}:%d\r\n$100\r\n%s\r\n", len(fmt.Sprint("{huge}:", i)), i, element(i))
			}
			fmt.Fprint(w, "EXEC\r\n")
		}},
	}
}

// Single commands and transactions of many megabytes reach the target as they were, in bounded memory of the sink, while the
// target goes on answering.
func TestHugeUnits(t *testing.T) {
	scale := envInt(t, "REDRIVER_LARGE_UNITS", 1)
	for _, u := range hugeUnits(scale) {
		t.Run(u.name, func(t *testing.T) {
			w := testkit.New(t)
			source := w.ClusterWith(redistest.Config{Masters: 1, Args: []string{"--repl-backlog-size", backlog, "--client-output-buffer-limit", "replica 0 0 0"}})
			target := w.Cluster(1, 0)
			p := newPipeline(t, w, w.Kafka().Addr(), source)
			from, to := p.run(p.sourceConfig("unit.max.bytes", "512MiB")), p.run(p.sinkConfig(p.prefix, target))
			p.mark(target.Client(), time.Minute)
			t.Logf("idle: source %+v, sink %+v", from.Usage(), to.Usage())
			stop := pinger(t, target.Masters()[0].Addr())
			start := time.Now()
			u.send(t, source.Masters()[0].Addr())
			sent := time.Since(start)
			p.mark(target.Client(), 10*time.Minute)
			t.Logf("sent in %s, applied in %s; the target answered: %s", sent, time.Since(start), stop())
			t.Logf("source %+v, sink %+v", from.Usage(), to.Usage())
			identical(t, source, target)
			if peak := to.Usage().PeakRSSBytes; peak > maxResident {
				t.Errorf("resident: sink %d MiB, want at most %d", peak>>20, maxResident>>20)
			}
		})
	}
}

func (u *hugeUnit) send(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := make(chan error, 1)
	go func() { // ends with the last answer, or with the connection
		r := bufio.NewReader(c)
		for range u.answers {
			line, err := r.ReadString('\n')
			if err == nil && line[0] == '-' {
				err = fmt.Errorf("%s", line)
			}
			if err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	w := bufio.NewWriterSize(c, 1<<20)
	u.write(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
}

// A large transaction over several databases of a single server, with a value that is built beside it, while its sink is
// killed: all of it takes effect once, in the databases that it names.
func TestHugeTransactionOverDatabases(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	from, to := w.Server("", "--repl-backlog-size", backlog, "--client-output-buffer-limit", "replica 0 0 0"), w.Server("")
	p := newPipeline(t, w, w.Kafka().Addr(), nil)
	source := p.run(p.singleSource(from.Addr()))
	config := p.singleSink(to.Addr(), "rebuild.bytes", "100KiB", "databases", "0:2,1:0,5:5")
	sink := p.run(config)
	c := from.Client()
	value := func(n int) string {
		b := make([]byte, n)
		rng := rand.NewChaCha8([32]byte{byte(n)})
		_, _ = rng.Read(b) // never fails
		return string(b)
	}
	const rounds = 4
	for round := range rounds {
		_, err := c.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
			do := func(args ...any) { tx.Do(t.Context(), args...) }
			do("set", "first", value(1_500_000), "px", 3_600_000)
			do("select", 5)
			do("set", "other", value(1_200_000+round))
			do("append", "log", strconv.Itoa(round)+",")
			do("select", 1)
			for i := range 3000 {
				do("append", fmt.Sprint("key:", i%100), value(50))
			}
			push := []any{"rpush", "list"}
			for i := range 15_000 {
				push = append(push, fmt.Sprintf("%0100d", i))
			}
			do(push...)
			do("select", 0)
			do("set", "last", value(1_300_000), "keepttl")
			do("pexpire", "last", 3_600_000)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100*round) * time.Millisecond)
		if err := sink.Kill(); err != nil {
			t.Fatal(err)
		}
		sink = p.run(config)
	}
	target := to.NewClient(func(o *redis.Options) { o.DB = 2 })
	defer target.Close()
	p.singleMark(c, target, time.Minute)
	sameDatabases(t, verify.At(from.Addr()), verify.At(to.Addr()), verify.Options{Databases: []verify.Databases{{From: 0, To: 2}, {From: 1, To: 0}, {From: 5, To: 5}}})
	sink.Stop()
	source.Stop()
}
