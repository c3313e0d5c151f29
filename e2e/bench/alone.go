package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/redriver/redriver/kafka"
)

// alone runs franz-go without anything else, in child processes.
type alone struct {
	broker     string
	dir        string
	partitions int
	children   int
}

func (a *alone) config() kafka.Config { return kafka.Config{Brokers: []string{a.broker}} }

// ends are the ends of a topic's partitions; none if there is no such topic yet.
func (a *alone) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	adm, err := a.config().Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for p, s := range spans {
		ends[p] = s.End
	}
	return ends, nil
}

// diskBytes is what a topic takes on the broker's disk.
func (a *alone) diskBytes(ctx context.Context, topic string) (sum int64, err error) {
	adm, err := a.config().Admin()
	if err != nil {
		return 0, err
	}
	defer adm.Close()
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("ask how large %s is: %w", topic, err)
	}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == topic {
				sum += p.Size
			}
		})
	})
	return sum, nil
}

// stretch is what lies in a topic between two moments.
type stretch struct {
	topic      string
	begin, end map[int32]int64 // begin may be nil: the topic's start
}

func (s stretch) spans() map[int32]kafka.Span {
	spans := map[int32]kafka.Span{}
	for p, end := range s.end {
		spans[p] = kafka.Span{Start: s.begin[p], End: end}
	}
	return spans
}

// maxAloneN bounds the records that are produced again.
const maxAloneN = 1_000_000

// copyTopic makes topics like those of a source, produces the records of a stretch there and consumes them.
func (a *alone) copyTopic(ctx context.Context, of stretch) (produce, consume childResult, err error) {
	to, offsets, err := a.makeTopics(ctx)
	if err != nil {
		return produce, consume, err
	}
	task := childTask{
		Mode: modeProduce, Brokers: []string{a.broker}, To: to, Partitions: a.partitions,
		From: of.topic, Spans: of.spans(), MaxN: maxAloneN, Offsets: offsets,
	}
	if produce, err = a.child(ctx, task); err != nil {
		return produce, consume, err
	}
	if produce.RecordsN == 0 {
		return produce, consume, fmt.Errorf("produce with franz-go alone: %s holds no record of the stretch", of.topic)
	}
	task = childTask{Mode: modeConsume, Brokers: []string{a.broker}, To: to, MaxN: produce.RecordsN}
	consume, err = a.child(ctx, task)
	return produce, consume, err
}

func (a *alone) child(ctx context.Context, task childTask) (childResult, error) {
	a.children++
	return startChild(ctx, a.dir, a.children, task)
}

func (a *alone) makeTopics(ctx context.Context) (to, offsets string, err error) {
	adm, err := a.config().Admin()
	if err != nil {
		return "", "", err
	}
	defer adm.Close()
	to = fmt.Sprintf("alone-%d", a.children)
	offsets = to + ".offsets"
	for _, spec := range []kafka.TopicSpec{
		{Name: to, Partitions: int32(a.partitions), Settings: map[string]string{"cleanup.policy": "delete"}},
		{Name: offsets, Partitions: offsetsPartitionsN, Settings: map[string]string{"cleanup.policy": "compact"}},
	} {
		if _, err := kafka.Ensure(ctx, adm, spec); err != nil {
			return "", "", err
		}
	}
	return to, offsets, nil
}

// latency measures Kafka's share of the latency.
func (a *alone) latency(ctx context.Context, rate int, span time.Duration) (childResult, error) {
	to, offsets, err := a.makeTopics(ctx)
	if err != nil {
		return childResult{}, err
	}
	return a.child(ctx, childTask{
		Mode: modeLatency, Brokers: []string{a.broker}, To: to, Partitions: a.partitions, Offsets: offsets, Rate: rate, For: span,
	})
}
