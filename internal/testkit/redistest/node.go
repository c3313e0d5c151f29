package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/tools"
)

// DefaultVersion is what an empty version means.
const DefaultVersion = "redis-7.0"

const (
	startTimeout = 20 * time.Second
	pollInterval = 10 * time.Millisecond
)

// BinDir returns the folder with redis-server of a version ("redis-7.0", "valkey-8.1"; see redis-install list), and
// installs it into the cache if need be. $REDRIVER_REDIS_BIN stands for the empty version only, so that a test that
// asks for a version never gets another.
func BinDir(ctx context.Context, version string) (string, error) {
	if version == "" {
		if dir := os.Getenv("REDRIVER_REDIS_BIN"); dir != "" {
			return dir, nil
		}
		version = DefaultVersion
	}
	return tools.InstallRedis(ctx, version)
}

// Node is one Redis server, running or not. It keeps its port and folder when it is killed and started again.
type Node struct {
	port   int
	dir    string
	binary string
	args   []string
	client *redis.Client

	tlsPort int // 0: none

	mu      sync.Mutex
	process *proc.Process // nil before the first Start
}

func newNode(binary, dir string, port int, args []string) *Node {
	n := &Node{port: port, dir: filepath.Join(dir, strconv.Itoa(port)), binary: binary, args: args}
	n.client = n.NewClient()
	return n
}

// ServerConfig says how to start a single server.
type ServerConfig struct {
	Version string   // default: DefaultVersion
	Dir     string   // parent of the server's folder, which is named after its port; required
	Args    []string // more options of redis-server ("--maxmemory", "100mb"); later ones win
}

// StartServer starts one server that is not part of a cluster, and waits until it answers.
func StartServer(ctx context.Context, cfg ServerConfig) (*Node, error) {
	nodes, err := newNodes(ctx, cfg.Version, cfg.Dir, 1, cfg.Args)
	if err != nil {
		return nil, err
	}
	if err := nodes[0].Start(ctx); err != nil {
		return nil, errors.Join(err, nodes[0].Close())
	}
	return nodes[0], nil
}

func newNodes(ctx context.Context, version, dir string, count int, args []string) ([]*Node, error) {
	if dir == "" {
		return nil, errors.New("start redis: no Dir given")
	}
	dir, err := filepath.Abs(dir) // a node's own working directory is another
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	bin, err := BinDir(ctx, version)
	if err != nil {
		return nil, err
	}
	secure := slices.Contains(args, "--tls-cert-file")
	ports, err := proc.FreePorts(2 * count)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(bin, "redis-server")
	major, err := majorOf(ctx, binary)
	if err != nil {
		return nil, err
	}
	base := []string{
		"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
		"--lua-time-limit", "60000",
	} // scripts that fill the servers are slow on a busy machine
	if major >= 7 { // before, DEBUG is always there, and every option can be set
		base = append(base, "--enable-debug-command", "yes", "--enable-protected-configs", "yes")
	}
	nodes := make([]*Node, 0, count)
	for i, port := range ports[:count] {
		all := append([]string{"--port", strconv.Itoa(port)}, base...)
		tlsPort := 0
		if secure {
			tlsPort = ports[count+i]
			all = append(all, "--tls-port", strconv.Itoa(tlsPort))
		}
		n := newNode(binary, dir, port, append(all, args...))
		n.tlsPort = tlsPort
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// majorOf asks a server of the Redis family for its version: "Redis server v=7.0.15 sha=..."; the number of a fork goes
// on from that of Redis.
func majorOf(ctx context.Context, binary string) (int, error) {
	text, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	_, rest, _ := strings.Cut(string(text), "v=")
	number, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %.60q", binary, text)
	}
	return major, nil
}

// Addr returns host:port.
func (n *Node) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

// TLSAddr returns host:port of the port that speaks TLS; "" for a node that was started without --tls-cert-file.
func (n *Node) TLSAddr() string {
	if n.tlsPort == 0 {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tlsPort))
}

// busPort is the port that the cluster bus is derived from.
func (n *Node) busPort() int {
	if n.tlsPort != 0 {
		return n.tlsPort
	}
	return n.port
}

// Port returns the port; a cluster node's bus is 10000 above.
func (n *Node) Port() int { return n.port }

// LogPath returns the log file, which restarts append to.
func (n *Node) LogPath() string { return filepath.Join(n.dir, "redis.log") }

// Client returns the node's own client, which stays valid when the node restarts and is closed with it. It follows no
// redirections.
func (n *Node) Client() *redis.Client { return n.client }

// NewClient returns another client, with the settings changed as the caller likes; the caller closes it.
func (n *Node) NewClient(change ...func(*redis.Options)) *redis.Client {
	options := &redis.Options{
		Addr:                     n.Addr(),
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		DialerRetries:            1, // a node that is down is down: tests want to know at once
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, f := range change {
		f(options)
	}
	return redis.NewClient(options)
}

// Process returns the running or last process, nil if there was none: its id, CPU and memory.
func (n *Node) Process() *proc.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Start starts the node, also after Kill or Stop, and waits until it answers. It does not wait for its cluster: see
// Cluster.WaitReady.
func (n *Node) Start(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.waitAnswer(ctx)
}

func (n *Node) launch() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil && n.process.Running() {
		return fmt.Errorf("start redis on port %d: it is running", n.port)
	}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	p, err := proc.Start(proc.Config{
		Name: "redis-" + strconv.Itoa(n.port), Path: n.binary, Args: n.args, Dir: n.dir, LogPath: n.LogPath(),
	})
	if err != nil {
		return err
	}
	n.process = p
	return nil
}

func (n *Node) waitAnswer(ctx context.Context) error {
	p := n.Process()
	return poll(ctx, startTimeout, func() error {
		if !p.Running() {
			return stopPollingError{fmt.Errorf("redis on port %d ended at once: %w\n%s", n.port, p.Wait(), p.LogTail(10))}
		}
		// the client's own dialling would print each refusal
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", n.Addr())
		if err != nil {
			return fmt.Errorf("redis on port %d does not listen: %w", n.port, err)
		}
		conn.Close()
		if err := n.client.Ping(ctx).Err(); err != nil && !strings.HasPrefix(err.Error(), "NOAUTH") {
			return fmt.Errorf("redis on port %d does not answer: %w", n.port, err)
		}
		return nil
	})
}

// Kill ends the node as a crash would; fine when it does not run.
func (n *Node) Kill() error {
	if p := n.Process(); p != nil {
		return p.Kill()
	}
	return nil
}

// Stop ends the node as an operator would (SIGTERM).
func (n *Node) Stop() error {
	if p := n.Process(); p != nil {
		return p.Stop(startTimeout)
	}
	return nil
}

// Pause freezes the node (SIGSTOP): its connections stay open and nothing answers.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Continue ends Pause.
func (n *Node) Continue() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(sig syscall.Signal) error {
	p := n.Process()
	if p == nil {
		return fmt.Errorf("signal redis on port %d: never started", n.port)
	}
	return p.Signal(sig)
}

// Close kills the node and closes its client. The folder stays.
func (n *Node) Close() error {
	return errors.Join(n.Kill(), n.client.Close())
}

// stopPollingError ends poll at once with the error inside.
type stopPollingError struct{ error }

func (e stopPollingError) Unwrap() error { return e.error }

// poll calls check until it returns nil. After the timeout it returns check's last error.
func poll(ctx context.Context, timeout time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := check()
		var stop stopPollingError
		if err == nil || errors.As(err, &stop) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (waited until: %w)", err, context.Cause(ctx))
		case <-time.After(pollInterval):
		}
	}
}
