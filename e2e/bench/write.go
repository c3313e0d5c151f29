package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/load"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// setter writes SET commands with values of 100 bytes to the source: number i is the same in every run. It speaks RESP
// itself, a connection for each master, because a client library would need more of the machine than what is measured.
type setter struct {
	source *redistest.Cluster
	keys   int    // of the key space
	seed   uint64 // of the values
}

const (
	valueBytes   = 100
	setterBatchN = 500 // commands that are sent before the answers of those before are read
	writeTimeout = time.Minute
)

func keyName(i int) string { return "key:" + strconv.Itoa(i) }

// fill writes every key once.
func (s setter) fill(ctx context.Context) error {
	return s.run(ctx, func(ctx context.Context, w *setConn) error { return w.all(ctx, s.keys, func(i int) int { return i }) })
}

// stride makes neighbouring commands write far apart; it is a prime, so every key gets its turn.
const stride = 7_368_787

// stream writes n commands, as fast as they are answered.
func (s setter) stream(ctx context.Context, n int) error {
	return s.run(ctx, func(ctx context.Context, w *setConn) error {
		return w.all(ctx, n, func(i int) int { return i * stride % s.keys })
	})
}

// paced writes at a fixed rate until ctx is done.
func (s setter) paced(ctx context.Context, rate int) error {
	return s.run(ctx, func(ctx context.Context, w *setConn) error { return w.paced(ctx, s.keys, float64(rate)/shards) })
}

// run calls fn with a connection to each master, all at once.
func (s setter) run(ctx context.Context, fn func(context.Context, *setConn) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, master := range s.source.Masters() {
		g.Go(func() error { // ends with fn
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", master.Addr())
			if err != nil {
				return fmt.Errorf("write to source: %w", err)
			}
			defer conn.Close()
			shard := i
			if len(s.source.Masters()) == 1 {
				shard = allShards
			}
			w := &setConn{shard: shard, conn: conn, r: bufio.NewReaderSize(conn, setterBatchN*len(okReply)), seed: s.seed, pcg: rand.NewPCG(0, 0)}
			if err := fn(ctx, w); err != nil {
				return fmt.Errorf("write to %s: %w", master.Addr(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

const okReply = "+OK\r\n"

// allShards is the shard of a setConn to the only master.
const allShards = -1

// setConn is one connection of a setter. One goroutine.
type setConn struct {
	shard int
	conn  net.Conn
	r     *bufio.Reader
	seed  uint64
	pcg   *rand.PCG

	out        []byte
	n          int // commands in out
	unanswered int
}

// all writes those of n commands whose key lies in the shard. keyOf says which key command i writes.
func (c *setConn) all(ctx context.Context, n int, keyOf func(int) int) error {
	for i := range n {
		if !c.add(keyName(keyOf(i)), uint64(i)) || c.n < setterBatchN {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The answers of the batch before: one is always under way.
		before := c.unanswered
		if err := c.send(); err != nil {
			return err
		}
		if err := c.answers(before); err != nil {
			return err
		}
	}
	return c.finish()
}

const paceInterval = 2 * time.Millisecond

func (c *setConn) paced(ctx context.Context, keys int, rate float64) error {
	start := time.Now()
	for i, sent := 0, 0; ctx.Err() == nil; {
		for due := int(time.Since(start).Seconds() * rate); sent < due; i++ {
			if c.add(keyName(i*stride%keys), uint64(i)) {
				sent++
			}
		}
		if err := c.finish(); err != nil {
			return err
		}
		_ = pause(ctx, paceInterval) // the loop looks at ctx
	}
	return nil
}

// add appends a command if its key lies in the shard.
func (c *setConn) add(key string, number uint64) bool {
	if c.shard != allShards && indexOf(slot.Of([]byte(key))) != c.shard {
		return false
	}
	var value [valueBytes]byte
	fillValue(c.pcg, c.seed, number, value[:])
	c.out = resp.AppendArrayHeader(c.out, 3)
	c.out = resp.AppendBulkString(c.out, "SET")
	c.out = resp.AppendBulkString(c.out, key)
	c.out = resp.AppendBulk(c.out, value[:])
	c.n++
	return true
}

const valueAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// fillValue makes a text that does not compress but for its alphabet.
func fillValue(pcg *rand.PCG, seed, number uint64, value []byte) {
	pcg.Seed(seed, number)
	var bits uint64
	for i := range value {
		if i%10 == 0 { // ten characters of six bits
			bits = pcg.Uint64()
		}
		value[i] = valueAlphabet[bits&63]
		bits >>= 6
	}
}

func (c *setConn) send() error {
	if err := c.conn.SetDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	c.unanswered += c.n
	c.out, c.n = c.out[:0], 0
	return nil
}

func (c *setConn) answers(n int) error {
	for range n {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line) != okReply {
			return errors.New(string(bytes.TrimSpace(line)))
		}
	}
	c.unanswered -= n
	return nil
}

func (c *setConn) finish() error {
	if err := c.send(); err != nil {
		return err
	}
	err := c.answers(c.unanswered)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Writers of the mixed stream: enough to keep three masters busy.
const (
	mixedWriters  = 6
	mixedPipeline = 64
)

// writeMixed writes at least n commands of all kinds (load.Writer) and returns how many they became.
func writeMixed(ctx context.Context, source *redistest.Cluster, n int) (written int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var writers []*load.Writer
	var running errgroup.Group
	for i := range mixedWriters {
		w, err := load.NewWriter(source.Client(), load.WriterConfig{
			Seed: uint64(i + 1), Prefix: fmt.Sprintf("writer-%d:", i), Shared: "shared:", Pipeline: mixedPipeline,
		})
		if err != nil {
			return 0, err
		}
		writers = append(writers, w)
		running.Go(func() error { return w.Run(ctx) }) // ends with ctx
	}
	sum := func() (written, failed int64) {
		for _, w := range writers {
			counts := w.Counts()
			written += counts.Commands
			failed += counts.Failed
		}
		return written, failed
	}
	for {
		if now, _ := sum(); now >= int64(n) {
			break
		}
		if err := pause(ctx, awaitPoll); err != nil {
			return 0, err
		}
	}
	cancel()
	if err := running.Wait(); err != nil {
		return 0, err
	}
	written, failed := sum()
	if failed > 0 {
		return 0, fmt.Errorf("write mixed commands: %d were not answered", failed)
	}
	return written, nil
}

// fillMixed writes keys of six types.
func fillMixed(ctx context.Context, source *redistest.Cluster, keys int) error {
	return load.Fill(ctx, source.Client(), load.FillConfig{Keys: keys, Seed: 1})
}
