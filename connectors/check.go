package connectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/source"
)

// Check looks at everything that the connectors need and writes nothing. It goes on after a failure that does not hide
// the next one; the error joins all of them.
func (r *Runner) Check(ctx context.Context) error {
	errs := []error{r.checkKafka(ctx)}
	found := map[string]*topology.Topology{}
	for i := range r.cfg.Connectors {
		c := &r.cfg.Connectors[i]
		t, err := r.checkRedis(ctx, c)
		errs = append(errs, err)
		if t != nil {
			found[c.Name] = t
		}
	}
	errs = append(errs, r.checkLoops(found))
	if errs[0] == nil {
		errs = append(errs, r.checkTopics(ctx, found))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

func (r *Runner) checkKafka(ctx context.Context) error {
	err := r.cfg.Worker.Kafka.Ping(ctx, r.cfg.Worker.KafkaTimeout)
	if err == nil {
		return nil
	}
	return &CheckError{
		Code: CodeKafka, What: "check Kafka", Err: err,
		Hint: "check kafka.brokers, that a broker runs there, and that the addresses it announces (advertised.listeners) can be reached from here",
	}
}

// checkRedis finds the cluster or the server of a connector. A server that is loading its data set passes: it will be ready.
func (r *Runner) checkRedis(ctx context.Context, c *Connector) (*topology.Topology, error) {
	t, err := topology.Find(ctx, c.Dialer(), c.Seeds(), nil)
	what := "check " + c.Kind + " " + c.Name
	switch {
	case err != nil && strings.Contains(err.Error(), "LOADING "):
		r.log.Warn("a Redis server is reading its data set, going on", slog.String("connector", c.Name), slog.Any("err", err))
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case t.Uncovered.Len() == slot.Count:
		return nil, &CheckError{
			Code: CodeTopology, What: what, Err: fmt.Errorf("no node that %s knows of serves a slot", strings.Join(c.Seeds(), ", ")),
			Hint: "form the cluster first (redis-cli --cluster create), or name a node that has joined it",
		}
	case !t.Uncovered.IsEmpty() && c.Kind == KindSink:
		r.log.Warn("some slots of the target have no master: their keys wait", slog.String("connector", c.Name), slog.String("slots", t.Uncovered.String()))
	}
	return t, nil
}

// checkLoops refuses a copy of a deployment into itself, which names of hosts do not always show.
func (r *Runner) checkLoops(found map[string]*topology.Topology) error {
	var errs []error
	for i := range r.cfg.Connectors {
		from := &r.cfg.Connectors[i]
		for j := range r.cfg.Connectors {
			to := &r.cfg.Connectors[j]
			if from.Kind != KindSource || to.Kind != KindSink || from.Prefix() != to.Prefix() || found[from.Name] == nil || found[to.Name] == nil {
				continue
			}
			for _, s := range found[from.Name].Shards {
				_, same := found[to.Name].Node(s.Master.ID)
				if same || found[to.Name].Single && found[to.Name].RunID == found[from.Name].RunID {
					errs = append(errs, &CheckError{
						Code: CodeTarget, What: "check sink " + to.Name,
						Err: fmt.Errorf("node %s belongs to source %s", s.Master.Addr, from.Name), Hint: "a deployment cannot be copied into itself: correct redis.address",
					})
					break
				}
			}
		}
	}
	return errors.Join(errs...)
}

// checkTopics finds a data topic with other partitions than configured before the source creates anything beside it.
func (r *Runner) checkTopics(ctx context.Context, found map[string]*topology.Topology) error {
	adm, err := r.cfg.Worker.Kafka.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Worker.KafkaTimeout)
	defer cancel()
	var errs []error
	for i := range r.cfg.Connectors {
		c := &r.cfg.Connectors[i]
		if c.Kind != KindSource {
			continue
		}
		t, err := kafka.Describe(ctx, adm, offsets.ChangesTopic(c.Prefix()))
		look := found[c.Name]
		want, others := source.PartitionsOf(int32(c.values.integer(keyPartitions)), look != nil && look.Single)
		switch {
		case errors.Is(err, kafka.ErrNoTopic), look == nil && c.values.integer(keyPartitions) == 0:
		case err != nil:
			errs = append(errs, &CheckError{
				Code: CodeKafka, What: "check source " + c.Name, Err: err,
				Hint: "check that the brokers' announced addresses can be reached from here, and the rights of this client",
			})
		case t.Partitions != want && !others:
			errs = append(errs, fmt.Errorf("check source %s: %w", c.Name, &kafka.MismatchError{
				Topic: t.Name, What: "the number of partitions", Have: strconv.Itoa(int(t.Partitions)), Want: strconv.Itoa(int(want)),
				Hint: "set topic.partitions to what the topic has, or use a new topic.prefix",
			}))
		}
	}
	return errors.Join(errs...)
}
