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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// workload is a numbered sequence of commands, the same in every run. It is sent as RESP over one connection to each
// master, because a client library would need more of the machine than what is measured.
type workload struct {
	n       int
	key     func(dst []byte, i int) []byte // appends the key of command i
	command func(s *sender, key []byte, i int)
}

const (
	senderBatchN = 500 // commands that are sent before the answers of those before are read
	senderBytes  = 1 << 20
	writeTimeout = time.Minute
)

// byMaster are the numbers of the commands by the master that has their keys.
func (w workload) byMaster(masters int) [][]int32 {
	all := make([][]int32, masters)
	var key []byte
	for i := range w.n {
		key = w.key(key[:0], i)
		m := indexOf(slot.Of(key), masters)
		all[m] = append(all[m], int32(i))
	}
	return all
}

// write sends every command once, as fast as they are answered.
func (w workload) write(ctx context.Context, to *redistest.Cluster) error {
	return w.send(ctx, to, func(ctx context.Context, s *sender, own []int32) error { return s.all(ctx, own) })
}

// writePaced sends commands, from the first again after the last, at a fixed rate in all, until ctx is done. It returns how
// many it sent.
func (w workload) writePaced(ctx context.Context, to *redistest.Cluster, rate int, tick time.Duration) (int64, error) {
	per := float64(rate) / float64(len(to.Masters()))
	var sum atomic.Int64
	err := w.send(ctx, to, func(ctx context.Context, s *sender, own []int32) error {
		n, err := s.paced(ctx, own, per, tick)
		sum.Add(int64(n))
		return err
	})
	return sum.Load(), err
}

// send calls fn with a connection to each master that has keys, all at once.
func (w workload) send(ctx context.Context, to *redistest.Cluster, fn func(context.Context, *sender, []int32) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, own := range w.byMaster(len(to.Masters())) {
		if len(own) == 0 {
			continue
		}
		addr := to.Masters()[i].Addr()
		g.Go(func() error { // ends with fn
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return fmt.Errorf("write to source: %w", err)
			}
			defer conn.Close()
			s := &sender{work: w, conn: conn, r: bufio.NewReaderSize(conn, 16<<10), pcg: rand.NewPCG(0, 0)}
			if err := fn(ctx, s, own); err != nil {
				return fmt.Errorf("write to %s: %w", addr, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// sender is one connection that sends commands of a workload. One goroutine.
type sender struct {
	work workload
	conn net.Conn
	r    *bufio.Reader
	pcg  *rand.PCG
	key  []byte

	out        []byte
	n          int // commands in out
	unanswered int
}

func (s *sender) all(ctx context.Context, own []int32) error {
	for _, i := range own {
		s.add(int(i))
		if s.n < senderBatchN && len(s.out) < senderBytes {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The answers of the batch before: one is always under way.
		before := s.unanswered
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.answers(before); err != nil {
			return err
		}
	}
	return s.finish()
}

func (s *sender) paced(ctx context.Context, own []int32, rate float64, tick time.Duration) (sent int, err error) {
	start := time.Now()
	for ctx.Err() == nil {
		for due := int(time.Since(start).Seconds() * rate); sent < due; sent++ {
			s.add(int(own[sent%len(own)]))
		}
		if s.n > 0 {
			if err := s.finish(); err != nil {
				return sent, err
			}
		}
		_ = pause(ctx, tick) // the loop looks at ctx
	}
	return sent, nil
}

func (s *sender) add(i int) {
	before := s.n
	s.key = s.work.key(s.key[:0], i)
	s.work.command(s, s.key, i)
	if s.n == before {
		panic("a workload wrote no command")
	}
}

// begin appends the start of a command of n arguments, the first two of which are given.
func (s *sender) begin(n int, name string, key []byte) {
	s.out = resp.AppendArrayHeader(s.out, n)
	s.word(name)
	s.out = resp.AppendBulk(s.out, key)
	s.n++
}

func (s *sender) word(text string) { s.out = resp.AppendBulkString(s.out, text) }

func (s *sender) number(n int) {
	var digits [20]byte
	s.out = resp.AppendBulk(s.out, strconv.AppendInt(digits[:0], int64(n), 10))
}

// numbered appends an argument made of a prefix and a number.
func (s *sender) numbered(prefix string, n int) {
	var text [40]byte
	s.out = resp.AppendBulk(s.out, strconv.AppendInt(append(text[:0], prefix...), int64(n), 10))
}

// value appends an argument of n bytes that follow from seed and number.
func (s *sender) value(n int, seed, number uint64) {
	var value [maxValueBytes]byte
	fillValue(s.pcg, seed, number, value[:n])
	s.out = resp.AppendBulk(s.out, value[:n])
}

const (
	maxValueBytes = 256
	valueAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
)

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

func (s *sender) flush() error {
	if err := s.conn.SetDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.conn.Write(s.out); err != nil {
		return err
	}
	s.unanswered += s.n
	s.out, s.n = s.out[:0], 0
	return nil
}

// answers reads so many of them: no command of ours is answered by an array.
func (s *sender) answers(n int) error {
	for range n {
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch line[0] {
		case '+', ':':
		case '$':
			size, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
			if err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			if size >= 0 {
				if _, err := s.r.Discard(size + len("\r\n")); err != nil {
					return err
				}
			}
		default:
			return errors.New(string(bytes.TrimSpace(line)))
		}
	}
	s.unanswered -= n
	return nil
}

func (s *sender) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	err := s.answers(s.unanswered)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
