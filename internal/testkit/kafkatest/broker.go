package kafkatest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/tools"
)

const (
	// startTimeout covers a busy machine and the recovery of some hundred logs after a crash.
	startTimeout = 90 * time.Second
	stopTimeout  = 30 * time.Second
	pollInterval = 20 * time.Millisecond
)

// Config says where a broker lives.
type Config struct {
	Dir  string // everything it keeps; that of an earlier run brings its data back; required
	Port int    // default: a free one
	Heap string // of the Java machine; default: "512m", or with AsShipped "1g"
	// AsShipped runs the Java machine as Kafka's own scripts do, for measurements: it is itself only after minutes of load.
	AsShipped bool

	// ExtraProps are more lines of server.properties; they win over ours.
	ExtraProps map[string]string

	// Clock is by how much the broker's clock is wrong, in whole seconds. It needs a C compiler.
	Clock time.Duration

	clusterID string // 22 characters; default: one of its own
}

// Broker is one Kafka node, broker and controller in one, running or not. It keeps port and folder over restarts.
type Broker struct {
	cfg            Config
	libs           string
	controllerPort int

	mu      sync.Mutex
	clock   []string // environment of SetClock
	process *proc.Process
}

// Start starts Apache Kafka, installed into the cache if need be, and waits until it is ready: 3 to 5 s.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start kafka: no Dir given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	cfg.Dir = dir
	if cfg.Heap == "" {
		cfg.Heap = "512m"
		if cfg.AsShipped {
			cfg.Heap = "1g"
		}
	}
	libs, err := tools.InstallKafka(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := proc.FreePorts(2)
	if err != nil {
		return nil, err
	}
	if cfg.Port == 0 {
		cfg.Port = ports[0]
	}
	b := &Broker{cfg: cfg, libs: libs, controllerPort: ports[1]}
	if err := b.format(ctx); err != nil {
		return nil, err
	}
	if cfg.Clock != 0 {
		if err := b.SetClock(ctx, cfg.Clock); err != nil {
			return nil, err
		}
	}
	if err := b.Restart(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Addr returns host:port.
func (b *Broker) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.cfg.Port)) }

// LogPath returns the broker's log, which restarts append to.
func (b *Broker) LogPath() string { return filepath.Join(b.cfg.Dir, "kafka.log") }

// Process returns the running or last process: its id, CPU and memory.
func (b *Broker) Process() *proc.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process
}

// Kill ends the broker as a crash would; fine when it does not run.
func (b *Broker) Kill() error { return b.Process().Kill() }

// Stop ends the broker in good order; fine when it does not run.
func (b *Broker) Stop() error { return b.Process().Stop(stopTimeout) }

// Pause freezes the broker (SIGSTOP). More than 3 s of it end the broker's session with its controller.
func (b *Broker) Pause() error { return b.Process().Signal(syscall.SIGSTOP) }

// Continue ends Pause.
func (b *Broker) Continue() error { return b.Process().Signal(syscall.SIGCONT) }

// Restart starts the broker again after Kill or Stop, on its port and data, and waits until it is ready. After a kill
// that takes 3 s longer: the controller waits for the end of the old session.
func (b *Broker) Restart(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.process != nil && b.process.Running() {
		return fmt.Errorf("start kafka on port %d: it is running", b.cfg.Port)
	}
	offset := int64(0)
	if info, err := os.Stat(b.LogPath()); err == nil {
		offset = info.Size()
	}
	p, err := proc.Start(proc.Config{
		Name: "kafka", Path: "java", Args: append(b.java(), "kafka.Kafka", b.properties()), Env: b.clock, Dir: b.cfg.Dir, LogPath: b.LogPath(),
	})
	if err != nil {
		return err
	}
	b.process = p
	if err := b.waitReady(ctx, p, offset); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

func (b *Broker) properties() string { return filepath.Join(b.cfg.Dir, "server.properties") }

// java returns the arguments up to the class to run.
func (b *Broker) java() []string {
	// The optimising compiler (C2) takes a third of a core for the first minutes of a broker, and does not pay for itself within
	// the life of a test; in production that is long over.
	machine := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms64m"}
	if b.cfg.AsShipped { // bin/kafka-run-class.sh and bin/kafka-server-start.sh of Kafka 4
		machine = []string{
			"-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
			"-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Xms" + b.cfg.Heap,
		}
	}
	return append(machine, "-Xmx"+b.cfg.Heap, "-Dlog4j2.configurationFile="+filepath.Join(b.cfg.Dir, "log4j2.properties"), "-cp", filepath.Join(b.libs, "*"))
}

const log4j = `rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %m (%c{1})%n
`

// format writes the configuration, and formats the folder if it is new.
func (b *Broker) format(ctx context.Context) error {
	data := filepath.Join(b.cfg.Dir, "data")
	if err := os.MkdirAll(b.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("start kafka: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.cfg.Dir, "log4j2.properties"), []byte(log4j), 0o644); err != nil {
		return fmt.Errorf("start kafka: %w", err)
	}
	var text strings.Builder
	for _, prop := range b.props(data) {
		fmt.Fprintf(&text, "%s=%s\n", prop[0], prop[1])
	}
	for name, value := range b.cfg.ExtraProps { // of two lines with one name the later wins
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	if err := os.WriteFile(b.properties(), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("start kafka: %w", err)
	}
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); err == nil {
		return nil
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	// the tool takes a leading "-" for an option
	cluster := cmp.Or(b.cfg.clusterID, "R"+base64.RawURLEncoding.EncodeToString(id)[1:])
	args := append(b.java(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", b.properties())
	if out, err := exec.CommandContext(ctx, "java", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format kafka folder %s: %w\n%s", data, err, out)
	}
	return nil
}

func (b *Broker) props(data string) [][2]string {
	controller := net.JoinHostPort("127.0.0.1", strconv.Itoa(b.controllerPort))
	return [][2]string{
		{"process.roles", "broker,controller"},
		{"node.id", "1"},
		{"controller.quorum.voters", "1@" + controller},
		{"controller.listener.names", "CONTROLLER"},
		{"listeners", "PLAINTEXT://" + b.Addr() + ",CONTROLLER://" + controller},
		{"advertised.listeners", "PLAINTEXT://" + b.Addr()},
		{"listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"},
		{"log.dirs", data},
		{"auto.create.topics.enable", "false"},
		{"offsets.topic.replication.factor", "1"},
		{"offsets.topic.num.partitions", "4"},
		{"transaction.state.log.replication.factor", "1"},
		{"transaction.state.log.min.isr", "1"},
		{"transaction.state.log.num.partitions", "4"},
		{"share.coordinator.state.topic.replication.factor", "1"},
		{"share.coordinator.state.topic.min.isr", "1"},
		{"group.initial.rebalance.delay.ms", "0"},
		// after a crash the controller refuses the broker until its old session ends, 9 s by default
		{"broker.heartbeat.interval.ms", "250"},
		{"broker.session.timeout.ms", "3000"},
	}
}

// waitReady waits for the broker's own word in the log behind offset: it is given after the broker is unfenced.
func (b *Broker) waitReady(ctx context.Context, p *proc.Process, offset int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		text, err := os.ReadFile(b.LogPath())
		if err == nil && int64(len(text)) > offset && strings.Contains(string(text[offset:]), "Kafka Server started") {
			return nil
		}
		if !p.Running() {
			return fmt.Errorf("kafka ended at once: %w\n%s", p.Wait(), p.LogTail(20))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka is not ready: %w\n%s", context.Cause(ctx), p.LogTail(20))
		case <-time.After(pollInterval):
		}
	}
}
