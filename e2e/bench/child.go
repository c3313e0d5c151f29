package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/kafka"
)

// childArg is the one argument that makes this binary a child: its task comes on standard input, its result goes to
// standard output, both JSON.
const childArg = "child-of-bench"

// Modes of a child.
const (
	modeProduce = "produce" // read records of a topic into memory, then produce them to another
	modeConsume = "consume" // read a topic to its end
	modeLatency = "latency" // produce and consume at a fixed rate in one process
)

// childTask says what a child does. All modes: Mode, Brokers, To.
type childTask struct {
	Mode    string
	Brokers []string
	// To is the topic that is written, or that consume reads. It exists.
	To         string
	Partitions int

	// Produce and latency: where positions are committed. Produce: where the records come from, how many of them are kept.
	From    string               `json:",omitempty"`
	Spans   map[int32]kafka.Span `json:",omitempty"`
	MaxN    int                  `json:",omitempty"`
	Offsets string               `json:",omitempty"`

	// Latency.
	Rate int           `json:",omitempty"`
	For  time.Duration `json:",omitempty"`
}

// childResult is what a child has measured.
type childResult struct {
	CPU      time.Duration // of the measured part only, not of reading records into memory
	Took     time.Duration
	RecordsN int // that were produced or consumed
	TotalN   int // produce: that were in the spans, of which RecordsN were kept
	CommitsN int

	P50, P90, P99, Max time.Duration // latency
}

func runChild(ctx context.Context, in io.Reader, out io.Writer) error {
	var task childTask
	if err := json.NewDecoder(in).Decode(&task); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	var result childResult
	var err error
	switch task.Mode {
	case modeProduce:
		result, err = childProduce(ctx, task)
	case modeConsume:
		result, err = childConsume(ctx, task)
	case modeLatency:
		result, err = childLatency(ctx, task)
	default:
		err = fmt.Errorf("unknown mode %q", task.Mode)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// ownCPU is the CPU time of this process so far.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read own CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// measured runs fn and fills in CPU and Took.
func measured(r *childResult, fn func() error) error {
	before, err := ownCPU()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := fn(); err != nil {
		return err
	}
	after, err := ownCPU()
	r.CPU, r.Took = after-before, time.Since(start)
	return err
}

// startChild runs this binary as a child and waits for its result.
func startChild(ctx context.Context, dir string, number int, task childTask) (childResult, error) {
	var result childResult
	self, err := os.Executable()
	if err != nil {
		return result, fmt.Errorf("start child: %w", err)
	}
	in, err := json.Marshal(task)
	if err != nil {
		return result, fmt.Errorf("start child: %w", err)
	}
	p, err := proc.Start(proc.Config{
		Name: "bench child", Path: self, Args: []string{childArg}, Stdin: strings.NewReader(string(in)),
		LogPath: filepath.Join(dir, "child-"+strconv.Itoa(number)+".log"),
	})
	if err != nil {
		return result, err
	}
	select {
	case <-ctx.Done():
		return result, errors.Join(context.Cause(ctx), p.Kill())
	case <-p.Done():
	}
	if err := p.Wait(); err != nil {
		return result, fmt.Errorf("%s with franz-go alone: %w\n%s", task.Mode, err, p.LogTail(logLines))
	}
	if err := json.Unmarshal([]byte(p.LogTail(1)), &result); err != nil {
		return result, fmt.Errorf("read result of child: %w\n%s", err, p.LogTail(logLines))
	}
	return result, nil
}
