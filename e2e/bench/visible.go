package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/slot"
)

// Latency is the time from the sending of a mark, a SET at the source, to the moment when the copy's server says by itself
// that the key has changed (CLIENT TRACKING with BCAST; from the same turn of its loop that makes it visible to GET). So it
// has the source's own way to take the mark in it, and nobody polls: the one who looks costs what is measured nothing.
const (
	markInterval  = 10 * time.Millisecond
	markTimeout   = 30 * time.Second
	latencyTick   = 2 * time.Millisecond // of the load beside it
	latencyPrefix = "latency:"
)

// latencyWarmup is how long the load has run when marks begin to count.
var latencyWarmup = 20 * time.Second

// newHistogram counts microseconds up to ten minutes, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

// latencyMarks are the marks of one measurement. What is there of a mark is written before the mark is sent.
type latencyMarks struct {
	start time.Time
	sent  []atomic.Int64 // nanoseconds since start, by the mark's number
	seenN atomic.Int64
}

// measureLatency sends marks for a time beside a load at a fixed rate.
func measureLatency(ctx context.Context, source *redistest.Cluster, sys system, load workload, rate int, span time.Duration) (*hdrhistogram.Histogram, error) {
	m := &latencyMarks{start: time.Now(), sent: make([]atomic.Int64, int((latencyWarmup+span)/markInterval))}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	var watchers errgroup.Group
	var histograms []*hdrhistogram.Histogram
	for _, n := range sys.copies() {
		conn, err := trackKeys(ctx, n.Addr())
		if err != nil {
			stopWatching()
			return nil, errors.Join(err, watchers.Wait())
		}
		context.AfterFunc(watching, func() { _ = conn.Close() })
		h := newHistogram()
		histograms = append(histograms, h)
		watchers.Go(func() error { return m.watch(watching, conn, h) }) // ends when its connection is closed
	}
	g, ctx := errgroup.WithContext(ctx)
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	g.Go(func() error { // ends when all marks are seen
		_, err := load.writePaced(loading, source, rate, latencyTick)
		return err
	})
	g.Go(func() error {
		defer stopLoad()
		if err := m.send(ctx, source); err != nil {
			return err
		}
		return m.allSeen(ctx, sys)
	})
	err := g.Wait()
	stopWatching()
	if err := errors.Join(err, watchers.Wait()); err != nil {
		return nil, errors.Join(fmt.Errorf("measure latency: %w", err), sys.check())
	}
	sum := newHistogram()
	for _, h := range histograms {
		sum.Merge(h)
	}
	return sum, nil
}

// trackKeys opens a connection on which the server tells of every change of a mark.
func trackKeys(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("track keys: %w", err)
	}
	if _, err := fmt.Fprintf(conn, "HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX %s\r\n", latencyPrefix); err != nil {
		return nil, errors.Join(fmt.Errorf("track keys: %w", err), conn.Close())
	}
	return conn, nil
}

// watch counts marks as the server names them: a push is ">2 invalidate [key ...]", and only keys begin as marks do.
func (m *latencyMarks) watch(ctx context.Context, conn net.Conn, h *hdrhistogram.Histogram) error {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadSlice('\n')
		if ctx.Err() != nil {
			return nil // closed by us
		}
		if err != nil {
			return fmt.Errorf("track keys: %w", err)
		}
		if line[0] == '-' {
			return fmt.Errorf("track keys: %s", bytes.TrimSpace(line))
		}
		rest, ok := bytes.CutPrefix(line, []byte(latencyPrefix))
		if !ok {
			continue
		}
		now := time.Since(m.start)
		digits, _, _ := bytes.Cut(rest, []byte{':'})
		n, err := strconv.Atoi(string(digits))
		if err != nil || n < 0 || n >= len(m.sent) {
			return fmt.Errorf("track keys: %q is no mark", line)
		}
		sent := time.Duration(m.sent[n].Load())
		m.seenN.Add(1)
		if sent < latencyWarmup {
			continue
		}
		if err := h.RecordValue((now - sent).Microseconds()); err != nil {
			return fmt.Errorf("count latency: %w", err)
		}
	}
}

// send writes a mark every markInterval, each in another slot.
func (m *latencyMarks) send(ctx context.Context, source *redistest.Cluster) error {
	masters := nodes(source.Masters())
	ticker := time.NewTicker(markInterval)
	defer ticker.Stop()
	for n := range m.sent {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		s := slot.Slot((n + 1) * stride % slot.Count)
		key := latencyPrefix + strconv.Itoa(n) + ":{" + slot.Tag(s) + "}"
		m.sent[n].Store(int64(time.Since(m.start)))
		if err := masters.of(s).Set(ctx, key, n, 0).Err(); err != nil {
			return fmt.Errorf("write mark: %w", err)
		}
	}
	return nil
}

func (m *latencyMarks) allSeen(ctx context.Context, sys system) error {
	deadline := time.Now().Add(markTimeout)
	for {
		missing := int64(len(m.sent)) - m.seenN.Load()
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d marks are not visible after %v", missing, len(m.sent), markTimeout)
		}
		if err := errors.Join(sys.check(), pause(ctx, awaitPoll)); err != nil {
			return err
		}
	}
}
