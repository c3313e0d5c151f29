package connectors

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// lock keeps a second process from the same spools: Kafka fences two writers of one log, nothing fences two of one file.
func (r *Runner) lock() (unlock func(), err error) {
	if !slices.ContainsFunc(r.cfg.Connectors, func(c Connector) bool { return c.Kind == KindSource }) {
		return func() {}, nil
	}
	return LockDir(r.cfg.Worker.DataDir)
}

// instances are the names of this worker among those of its sinks.
type instances struct {
	mu   sync.Mutex
	kept map[string]instance
}

// instance is a name and the file that holds it, open and locked as long as the process lives.
type instance struct {
	name string
	file *os.File
}

// of a sink: random, and kept in the data folder, so that it is the same after a restart. There is none where nothing can
// be kept, or where another process has it.
func (n *instances) of(dir, sink string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, ok := n.kept[sink]; ok {
		return i.name
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	file, err := os.OpenFile(filepath.Join(dir, sink+".instance"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return ""
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	var name []byte
	if err == nil {
		name, err = io.ReadAll(file)
	}
	if err == nil && len(name) == 0 {
		name = []byte(sink + "-" + rand.Text())
		_, err = file.Write(name)
	}
	if err != nil {
		_ = file.Close()
		return ""
	}
	if n.kept == nil {
		n.kept = map[string]instance{}
	}
	n.kept[sink] = instance{string(name), file}
	return string(name)
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
