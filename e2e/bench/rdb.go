package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/internal/testkit/proc"
	"github.com/redriver/redriver/internal/testkit/redistest"
	"github.com/redriver/redriver/redis/rdb"
)

// rdbFile is a snapshot as a server saves it.
type rdbFile struct {
	name, path string
	bytes      int64
	keys       int
}

// reading is one program that reads such a file.
type reading struct {
	name string
	// args start it; the file's path comes behind them.
	args []string
	cpu  []series // by file
}

func runRDB(ctx context.Context, cfg config, where machine) (err error) {
	root, err := testkit.ModuleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "redriver-bench-")
	if err != nil {
		return err
	}
	if err := proc.RemoveAtExit(dir); err != nil {
		return err
	}
	files, err := saveRDBFiles(ctx, cfg, dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	readings := []*reading{
		{name: "redriver: skim", args: []string{self, rdbArg, "skim"}},
		{name: "redriver: decode", args: []string{self, rdbArg, "decode"}},
	}
	if path, err := exec.LookPath("redis-check-rdb"); err == nil {
		readings = append(readings, &reading{name: "redis-check-rdb", args: []string{path}})
	}
	if cfg.rdbParser != "" {
		readings = append(readings, &reading{name: filepath.Base(cfg.rdbParser), args: []string{cfg.rdbParser}})
	}
	for _, r := range readings {
		r.cpu = make([]series, len(files))
	}
	for run := range cfg.runs {
		for i, f := range files {
			for _, r := range readings {
				fmt.Fprintf(os.Stderr, "%s  run %d of %d, %s, %s\n", time.Now().Format(time.TimeOnly), run+1, cfg.runs, f.name, r.name)
				used, _, err := runToEnd(ctx, proc.Config{Path: r.args[0], Args: append(r.args[1:], f.path), Dir: dir})
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				r.cpu[i] = append(r.cpu[i], used.CPU.Seconds())
			}
		}
	}
	text := rdbReport(cfg, where, files, readings, time.Now())
	fmt.Print(text)
	if !cfg.write {
		return nil
	}
	return writeReport(root, func(old string) string { return withSection(old, rdbHeading, text) })
}

// saveRDBFiles has a server save what it holds: many small strings, all types, and a few large collections.
func saveRDBFiles(ctx context.Context, cfg config, dir string) (files []rdbFile, err error) {
	cluster, err := redistest.StartCluster(ctx, redistest.Config{Masters: 1, Dir: dir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	node := cluster.Masters()[0]
	members := cfg.keys / 2
	for _, c := range []struct {
		name string
		fill func() error
	}{
		{fmt.Sprintf("%s strings of %d bytes", count(cfg.keys), valueBytes), func() error { return fillStrings(cfg.keys).write(ctx, cluster) }},
		{fmt.Sprintf("%s keys of six types", count(cfg.keys/5)), func() error { return fillMixed(ctx, cluster, cfg.keys/5) }},
		{fmt.Sprintf("4 collections of %s elements", count(members)), func() error { return fillLarge(ctx, cluster, members) }},
	} {
		if err := node.Client().FlushAll(ctx).Err(); err != nil {
			return nil, err
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
		if err := node.Client().Save(ctx).Err(); err != nil {
			return nil, fmt.Errorf("save: %w", err)
		}
		f := rdbFile{name: c.name, path: filepath.Join(dir, fmt.Sprintf("%d.rdb", len(files)))}
		if err := os.Rename(filepath.Join(filepath.Dir(node.LogPath()), "dump.rdb"), f.path); err != nil {
			return nil, err
		}
		if f.keys, f.bytes, err = skimFile(f.path, nil); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// rdbArg makes this binary a reader of one file, in the mode and from the path behind it.
const rdbArg = "read-rdb"

func readRDB(mode, path string) error {
	switch mode {
	case "skim":
		_, _, err := skimFile(path, nil)
		return err
	case "decode":
		_, _, err := skimFile(path, rdb.NewDecoder(rdb.DecoderConfig{}))
		return err
	}
	return fmt.Errorf("unknown mode %q", mode)
}

// skimFile reads a file to its end, checksum included; with a decoder each value to its last element.
func skimFile(path string, d *rdb.Decoder) (keys int, bytes int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	r := rdb.NewReader(f, rdb.Config{})
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return keys, r.Consumed(), nil
		}
		if err != nil {
			return keys, r.Consumed(), fmt.Errorf("%s: %w", path, err)
		}
		if item.Kind != rdb.KindEntry {
			continue
		}
		keys++
		if d == nil {
			continue
		}
		for d.ResetBytes(item.Entry.Type, item.Entry.Value, r.Format()); ; {
			if _, err := d.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return keys, r.Consumed(), fmt.Errorf("%s: %w", path, err)
			}
		}
	}
}

// rdbHeading begins the section of RDB files.
const rdbHeading = "\n# Reading RDB files\n"

const rdbMethod = `
Files that a server saved, checksum on, compression as is its default, read from the page cache, one program at a time; medians, with the
least and the largest. CPU is user and system time of the whole process from /proc. *Skim* frames values, which is all that RESTORE needs;
*decode* hands out every element of every value. Both check the file's checksum.
`

const rdbPeerMethod = "`%s` is a program around another parser, which is not part of this repository: it reads the file named by its argument to the end,\n" +
	"with that library's own decoding into values, and drops them. redis-check-rdb is Redis's own, which loads every value.\n"

func rdbReport(cfg config, m machine, files []rdbFile, readings []*reading, date time.Time) string {
	var b strings.Builder
	command := "make bench-rdb"
	if cfg.rdbParser != "" {
		command += ` BENCHFLAGS="-rdb-parser PATH"`
	}
	fmt.Fprintf(&b, "%s\nWritten by `%s`, on %s: %s; Redis %s; %d cores, %s; %d runs.\n",
		rdbHeading, command, date.UTC().Format("2006-01-02"), m.redriver, m.redis, m.cores, m.cpu, cfg.runs)
	b.WriteString(rdbMethod)
	if cfg.rdbParser != "" {
		fmt.Fprintf(&b, rdbPeerMethod, filepath.Base(cfg.rdbParser))
	}
	for i, f := range files {
		fmt.Fprintf(&b, "\n%s, %.0f MB:\n\n| | CPU s | MB per CPU s | keys per CPU s |\n|---|---|---|---|\n", f.name, float64(f.bytes)/1e6)
		for _, r := range readings {
			cpu := r.cpu[i].median()
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.cpu[i], figure(float64(f.bytes)/1e6/cpu), figure(float64(f.keys)/cpu))
		}
	}
	return b.String()
}

// section is the part of a report that begins with a heading, "" if it has none.
func section(text, heading string) string {
	i := strings.Index(text, heading)
	if i < 0 {
		return ""
	}
	if next := strings.Index(text[i+len(heading):], "\n# "); next >= 0 {
		return text[i : i+len(heading)+next]
	}
	return text[i:]
}

// withSection puts a section in the place of the one before it, or at the end.
func withSection(text, heading, written string) string {
	if old := section(text, heading); old != "" {
		return strings.Replace(text, old, written, 1)
	}
	return text + written
}

// fillBatch is how many elements are written at once.
const fillBatch = 1000

// fillLarge makes a hash, a set, a sorted set and a list of so many elements.
func fillLarge(ctx context.Context, cluster *redistest.Cluster, members int) error {
	pipe := cluster.Client().Pipeline()
	for i := 0; i < members; i += fillBatch {
		var hash, set, list, zset []any
		for n := i; n < min(members, i+fillBatch); n++ {
			member := fmt.Sprintf("member:%08d", n)
			hash = append(hash, member, "value of "+member)
			set, list = append(set, member), append(list, member)
			zset = append(zset, float64(n)*1.1, member)
		}
		pipe.HSet(ctx, "large:hash", hash...)
		pipe.SAdd(ctx, "large:set", set...)
		pipe.RPush(ctx, "large:list", list...)
		pipe.Do(ctx, append([]any{"ZADD", "large:zset"}, zset...)...)
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}
