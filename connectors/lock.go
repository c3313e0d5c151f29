package connectors

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// lock keeps a second process from the same spools: Kafka fences two writers of one log, nothing fences two of one file.
func (r *Runner) lock() (unlock func(), err error) {
	if !slices.ContainsFunc(r.cfg.Connectors, func(c Connector) bool { return c.Kind == KindSource }) {
		return func() {}, nil
	}
	return LockDir(r.cfg.Worker.DataDir)
}

// instance is the name of this worker among those of a sink: random, and kept in the data folder. Where nothing can be
// kept there is none.
func instance(dir, sink string) string {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	path := filepath.Join(dir, sink+".instance")
	if name, err := os.ReadFile(path); err == nil && len(name) > 0 {
		return string(name)
	}
	name := sink + "-" + rand.Text()
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		return ""
	}
	return name
}

// LockDir makes a folder ours for as long as the process lives, or until unlock.
func LockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &CheckError{Code: CodeConfig, What: "make data folder", Err: err, Hint: "set data.dir to a folder that this user may write"}
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &CheckError{Code: CodeConfig, What: "lock data folder", Err: err, Hint: "set data.dir to a folder that this user may write"}
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, &CheckError{
			Code: CodeConfig, What: "lock data folder " + dir, Err: fmt.Errorf("another process uses it (%w)", err),
			Hint: "stop that one, or give this one a folder of its own",
		}
	}
	return func() { file.Close() }, nil
}
