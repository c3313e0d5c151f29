package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/kafkatest"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// redriver is the project's own binary: a process with a source and a process with a sink, both with their defaults.
type redriver struct {
	groupList
	source, target *redistest.Cluster
	broker         *kafkatest.Broker
	dir, prefix    string
	partitions     int
	profiled       bool
	running        []*proc.Process
	profiles       map[*proc.Process]string // the folder that each writes its profiles to
}

func newRedriver(ctx context.Context, source *redistest.Cluster, b *bench, dir, prefix string) (*redriver, error) {
	target, err := startCluster(ctx, filepath.Join(dir, "target"))
	if err != nil {
		return nil, fmt.Errorf("start target: %w", err)
	}
	r := &redriver{
		source: source, target: target, broker: b.broker, dir: dir, prefix: prefix, partitions: b.cfg.partitions,
		profiled: b.cfg.profiles != "", profiles: map[*proc.Process]string{},
	}
	r.add(groupTarget, processes(target.Masters())...)
	r.add(groupKafka, b.broker.Process())
	return r, nil
}

func (r *redriver) topic() string { return r.prefix + ".changes" }

func (r *redriver) start(context.Context) error {
	binary, err := testkit.Binary()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		group, kind, name string
		keys              []string
	}{
		{groupSource, "source", r.prefix + "-from", []string{
			"type: source", "redis.address: " + r.source.Addrs()[0], fmt.Sprintf("topic.partitions: %d", r.partitions),
		}},
		{groupSink, "sink", r.prefix + "-to", []string{"type: sink", "redis.address: " + r.target.Addrs()[0]}},
	} {
		path, err := r.config(c.name, append(c.keys, "topic.prefix: "+r.prefix))
		if err != nil {
			return err
		}
		process := proc.Config{
			Name: c.group, Path: binary, Args: []string{"run", "--config", path, "--no-progress"},
			LogPath: filepath.Join(r.dir, c.name+".log"),
		}
		profiles := filepath.Join(r.dir, "profiles", c.kind)
		if r.profiled {
			if err := os.MkdirAll(profiles, 0o755); err != nil {
				return err
			}
			process.Env = []string{profileEnv + "=" + profiles}
		}
		p, err := proc.Start(process)
		if err != nil {
			return err
		}
		r.running = append(r.running, p)
		r.profiles[p] = profiles
		r.add(c.group, p)
	}
	return nil
}

// config writes the configuration of a worker with one connector.
func (r *redriver) config(name string, keys []string) (path string, err error) {
	text := fmt.Sprintf("worker:\n  data.dir: %q\n  kafka.brokers: [%q]\nconnectors:\n  %s:\n    %s\n",
		filepath.Join(r.dir, "data-"+name), r.broker.Addr(), name, strings.Join(keys, "\n    "))
	path = filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return path, nil
}

func (r *redriver) copies() nodes { return r.target.Masters() }

const stopTimeout = 30 * time.Second

// stop ends both processes in good order.
func (r *redriver) stop() error {
	var errs []error
	for _, p := range r.running {
		if err := p.Stop(stopTimeout); err != nil {
			errs = append(errs, err)
		} else if err := p.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("stop redriver: %w\n%s", err, p.LogTail(logLines)))
		}
	}
	return errors.Join(errs...)
}

func (r *redriver) close() error {
	var errs []error
	for _, p := range r.running {
		errs = append(errs, p.Kill())
	}
	return errors.Join(append(errs, r.target.Close())...)
}
