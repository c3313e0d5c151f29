package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TopicSpec is what a topic has to be.
type TopicSpec struct {
	Name       string
	Partitions int32
	// TakesOthers: a topic that exists may have any number of partitions.
	TakesOthers bool
	// Replication is the wanted replication factor; 0 takes 3 where there are three brokers, else as many as there are.
	Replication int16
	// Settings are the topic's configuration. Those in Binding must hold for an existing topic too.
	Settings map[string]string
	Binding  []string
	// Hint is the next step to give when the topic exists with other partitions.
	Hint string
}

// Topic is what a topic is.
type Topic struct {
	Name            string
	ID              string
	Partitions      int32
	MaxMessageBytes int
	// Warnings are sentences for the operator: nothing is wrong, but less safe than it could be.
	Warnings []string
}

// MismatchError tells that a topic exists and is not what it has to be.
type MismatchError struct {
	Topic, What, Have, Want, Hint string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("check topic %s: %s is %s, not %s: %s", e.Topic, e.What, e.Have, e.Want, e.Hint)
}

// ErrNoTopic says that the topic does not exist.
var ErrNoTopic = errors.New("topic does not exist")

const safeReplication = 3

// Ensure creates the topic, or checks the existing one, and waits until all its partitions have leaders.
func Ensure(ctx context.Context, adm *kadm.Client, spec TopicSpec) (Topic, error) {
	if _, err := Describe(ctx, adm, spec.Name); errors.Is(err, ErrNoTopic) {
		if err := create(ctx, adm, spec); err != nil {
			return Topic{}, err
		}
	} else if err != nil {
		return Topic{}, err
	}
	t, err := awaitLeaders(ctx, adm, spec.Name)
	if err != nil {
		return Topic{}, err
	}
	if t.Partitions != spec.Partitions && !spec.TakesOthers {
		return Topic{}, &MismatchError{
			Topic: spec.Name, What: "the number of partitions",
			Have: strconv.Itoa(int(t.Partitions)), Want: strconv.Itoa(int(spec.Partitions)), Hint: spec.Hint,
		}
	}
	if err := checkSettings(ctx, adm, spec, &t); err != nil {
		return Topic{}, err
	}
	return t, nil
}

func create(ctx context.Context, adm *kadm.Client, spec TopicSpec) error {
	replication := spec.Replication
	if replication == 0 {
		brokers, err := adm.ListBrokers(ctx)
		if err != nil {
			return fmt.Errorf("list kafka brokers: %w", err)
		}
		replication = int16(min(len(brokers), safeReplication))
	}
	settings := map[string]*string{}
	for k, v := range spec.Settings {
		settings[k] = new(v)
	}
	if replication >= safeReplication {
		settings["min.insync.replicas"] = new("2")
		settings["unclean.leader.election.enable"] = new("false")
	}
	resp, err := adm.CreateTopic(ctx, spec.Partitions, replication, settings, spec.Name)
	if err == nil {
		err = resp.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s with %d partitions: %w", spec.Name, spec.Partitions, err)
	}
	return nil
}

// Describe reads a topic's identity and size.
func Describe(ctx context.Context, adm *kadm.Client, name string) (Topic, error) {
	t, _, err := describe(ctx, adm, name)
	return t, err
}

func describe(ctx context.Context, adm *kadm.Client, name string) (Topic, bool, error) {
	details, err := adm.ListTopics(ctx, name)
	if err != nil {
		return Topic{}, false, fmt.Errorf("describe topic %s: %w", name, err)
	}
	d, ok := details[name]
	switch {
	case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		return Topic{}, false, fmt.Errorf("describe topic %s: %w", name, ErrNoTopic)
	case d.Err != nil:
		return Topic{}, false, fmt.Errorf("describe topic %s: %w", name, d.Err)
	}
	t := Topic{Name: name, ID: d.ID.String(), Partitions: int32(len(d.Partitions)), MaxMessageBytes: defaultMaxMessageBytes}
	led, replicas := true, safeReplication
	for _, p := range d.Partitions {
		led = led && p.Leader >= 0 && p.Err == nil
		replicas = min(replicas, len(p.Replicas))
	}
	if replicas < safeReplication {
		t.Warnings = append(t.Warnings, fmt.Sprintf("topic %s has %d replica(s): losing that many brokers loses the log", name, replicas))
	}
	return t, led && len(d.Partitions) > 0, nil
}

const (
	defaultMaxMessageBytes = 1 << 20
	leaderPoll             = 20 * time.Millisecond
)

// awaitLeaders waits for the leaders of a fresh topic: a first produce without one costs a retry of the whole client.
func awaitLeaders(ctx context.Context, adm *kadm.Client, name string) (Topic, error) {
	for {
		t, led, err := describe(ctx, adm, name)
		if (err == nil && led) || (err != nil && !errors.Is(err, ErrNoTopic)) {
			return t, err
		}
		select {
		case <-ctx.Done():
			return t, fmt.Errorf("wait for leaders of topic %s: %w", name, context.Cause(ctx))
		case <-time.After(leaderPoll):
		}
	}
}

// Refresh reads an existing topic again: what it is and what it allows may have changed since it was ensured.
func Refresh(ctx context.Context, adm *kadm.Client, name string) (Topic, error) {
	t, err := Describe(ctx, adm, name)
	if err == nil {
		_, err = t.settings(ctx, adm)
	}
	return t, err
}

// settings reads the topic's configuration, and takes over what is part of the topic here.
func (t *Topic) settings(ctx context.Context, adm *kadm.Client) (map[string]string, error) {
	configs, err := adm.DescribeTopicConfigs(ctx, t.Name)
	if err != nil {
		return nil, fmt.Errorf("read configuration of topic %s: %w", t.Name, err)
	}
	have := map[string]string{}
	for _, c := range configs {
		if errors.Is(c.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("read configuration of topic %s: %w", t.Name, ErrNoTopic)
		}
		if c.Err != nil {
			return nil, fmt.Errorf("read configuration of topic %s: %w", t.Name, c.Err)
		}
		for _, kv := range c.Configs {
			have[kv.Key] = kv.MaybeValue()
		}
	}
	if n, err := strconv.Atoi(have["max.message.bytes"]); err == nil {
		t.MaxMessageBytes = n
	}
	return have, nil
}

func checkSettings(ctx context.Context, adm *kadm.Client, spec TopicSpec, t *Topic) error {
	have, err := t.settings(ctx, adm)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Settings)) {
		want, got := spec.Settings[k], have[k]
		if got == want || got == "" {
			continue
		}
		if slices.Contains(spec.Binding, k) {
			return &MismatchError{
				Topic: spec.Name, What: k, Have: got, Want: want,
				Hint: fmt.Sprintf("set it with kafka-configs --alter --entity-type topics --entity-name %s --add-config %s=%s", spec.Name, k, want),
			}
		}
		t.Warnings = append(t.Warnings, fmt.Sprintf("topic %s has %s=%s, not %s", spec.Name, k, got, want))
	}
	return nil
}
