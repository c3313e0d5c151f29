package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redriver/redriver/internal/testkit/proc"
)

// With -profiles Redriver's binary is built with one file more, which profiles the process all the time and begins a new
// profile with each SIGUSR1.
//
//go:embed profiled.go.txt
var profiledSource string

// profileEnv names the folder that such a process writes its profiles to, numbered from 1.
const profileEnv = "REDRIVER_BENCH_PROFILES"

// buildProfiled builds that binary in a folder beside the profiles, and has testkit use it.
func buildProfiled(ctx context.Context, root, profiles string) error {
	dir, err := filepath.Abs(filepath.Join(profiles, "binary"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	extra := filepath.Join(dir, "profiled.go")
	if err := os.WriteFile(extra, []byte(profiledSource), 0o600); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, "cmd", "redriver", "profiled_by_bench.go"): extra}})
	if err != nil {
		return err
	}
	overlayPath, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "redriver")
	if err := os.WriteFile(overlayPath, overlay, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlayPath, "-o", binary, "./cmd/redriver")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build with profiles: %w\n%s", err, out)
	}
	return os.Setenv("REDRIVER_BIN", binary)
}

// profile is that of a case; its zero value does nothing.
type profile struct {
	dir string // of the reports
	sys *redriver
	err error
}

// profile begins one, if they are asked for.
func (c *contest) profile() *profile {
	p := &profile{dir: c.cfg.profiles}
	r, ok := c.sys.(*redriver)
	if p.dir == "" || !ok {
		return &profile{}
	}
	p.sys = r
	for _, running := range r.running {
		_, err := rotate(running, r.profiles[running])
		p.err = errors.Join(p.err, err)
	}
	return p
}

// end writes what each process did since profile, and what its memory holds, as text.
func (p *profile) end(caseName string) error {
	if p.sys == nil || p.err != nil {
		return p.err
	}
	for _, running := range p.sys.running {
		raw, err := rotate(running, p.sys.profiles[running])
		if err != nil {
			return err
		}
		name := strings.Map(func(r rune) rune {
			if strings.ContainsRune(" ,:`/%", r) {
				return '-'
			}
			return r
		}, caseName) + "." + filepath.Base(p.sys.profiles[running])
		path := filepath.Join(p.dir, name)
		if err := os.Rename(raw, path+".pprof"); err != nil {
			return err
		}
		heap := strings.TrimSuffix(raw, ".pprof") + ".heap"
		if err := os.Rename(heap, path+".heap"); err != nil {
			return err
		}
		for kind, report := range map[string]string{".pprof": ".txt", ".heap": ".heap.txt"} {
			out, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=80", path+kind).Output() //nolint:noctx // short
			if err != nil {
				return fmt.Errorf("write profile as text: %w", err)
			}
			if err := os.WriteFile(path+report, out, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

const rotateTimeout = 10 * time.Second

// rotate has the process end its profile, and returns where it is.
func rotate(p *proc.Process, dir string) (path string, err error) {
	for n := 1; ; n++ {
		path = filepath.Join(dir, strconv.Itoa(n)+".pprof")
		if _, err := os.Stat(path + ".taken"); err != nil {
			break
		}
	}
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	for deadline := time.Now().Add(rotateTimeout); time.Now().Before(deadline); time.Sleep(awaitPoll) {
		if _, err := os.Stat(path); err == nil {
			return path, os.WriteFile(path+".taken", nil, 0o600)
		}
	}
	return "", fmt.Errorf("%s has written no profile after %v", path, rotateTimeout)
}
