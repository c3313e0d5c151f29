package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
)

// peer is a program that copies one cluster into another without a log between, if a path to its binary is given.
type peer struct {
	name, path string
	configName string
	args       func(configPath string) []string
	config     func(source, target *redistest.Cluster, dir string, port int) string
}

// Names of peers, which are names of systems and of measures.
const (
	nameShake = "RedisShake"
	nameGunYu = "redis-GunYu"
)

// shakePeer: all but addresses and its folder is as the program has it by itself.
func shakePeer(path string) peer {
	return peer{
		name: nameShake, path: path, configName: "shake.toml",
		args: func(configPath string) []string { return []string{configPath} },
		config: func(source, target *redistest.Cluster, dir string, _ int) string {
			return fmt.Sprintf("[sync_reader]\ncluster = true\naddress = %q\n\n[redis_writer]\ncluster = true\naddress = %q\n\n[advanced]\ndir = %q\n",
				source.Addrs()[0], target.Addrs()[0], filepath.Join(dir, "data"))
		},
	}
}

func gunyuPeer(path string) peer {
	return peer{
		name: nameGunYu, path: path, configName: "gunyu.yaml",
		args: func(configPath string) []string { return []string{"-conf", configPath} },
		config: func(source, target *redistest.Cluster, dir string, port int) string {
			return fmt.Sprintf("server:\n  listen: 127.0.0.1:%d\ninput:\n  redis:\n    addresses: [%s]\n    type: cluster\n  mode: dynamic\n"+
				"channel:\n  storer:\n    dirPath: %q\noutput:\n  redis:\n    addresses: [%s]\n    type: cluster\n",
				port, strings.Join(source.Addrs(), ", "), filepath.Join(dir, "data"), strings.Join(target.Addrs(), ", "))
		},
	}
}

// runningPeer is a peer at work, with a target of its own.
type runningPeer struct {
	groupList
	peer
	source, target *redistest.Cluster
	dir            string
	process        *proc.Process
}

func newPeer(ctx context.Context, source *redistest.Cluster, of peer, dir string) (*runningPeer, error) {
	target, err := startCluster(ctx, filepath.Join(dir, "target"))
	if err != nil {
		return nil, fmt.Errorf("start target: %w", err)
	}
	p := &runningPeer{peer: of, source: source, target: target, dir: dir}
	p.add(targetOf(p.name), processes(target.Masters())...)
	return p, nil
}

func (p *runningPeer) start(context.Context) error {
	ports, err := proc.FreePorts(1)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(p.dir, "data"), 0o755); err != nil {
		return err
	}
	path := filepath.Join(p.dir, p.configName)
	if err := os.WriteFile(path, []byte(p.config(p.source, p.target, p.dir, ports[0])), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	p.process, err = proc.Start(proc.Config{Name: p.name, Path: p.path, Args: p.args(path), Dir: p.dir, LogPath: filepath.Join(p.dir, "log")})
	if err != nil {
		return err
	}
	p.add(p.name, p.process)
	return nil
}

func (p *runningPeer) copies() nodes { return p.target.Masters() }

func (p *runningPeer) close() error {
	var err error
	if p.process != nil {
		err = p.process.Kill()
	}
	return errors.Join(err, p.target.Close())
}
