// Command testall runs go vet and all tests, and ends with one line: "N passed, N failed, N skipped".
//
//	testall [-deadline 14m] [-race] [go test flag]... [package pattern]...
//
// Tests that count instructions (TestCostOf...) run first, one at a time: they need the machine for themselves. Packages whose
// tests start servers run behind all others, two at once: their tests mostly wait, and more of them would run into each
// other's timeouts on a small machine. Subtests count. What fails outside of a test (vet, a build, a panic between tests)
// counts as one failure, as does a test that the deadline cut off.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// packagesAtOnce are packages whose tests start servers. Of each, atOnce tests run at once for each core, where they allow
// it: most of their time they wait.
const packagesAtOnce, atOnce = 2, 2

const kit = "github.com/redriver/redriver/internal/testkit"

func main() {
	deadline := time.Hour
	flags, patterns := []string{}, []string{}
	for args := os.Args[1:]; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "-deadline" && len(args) > 1:
			d, err := time.ParseDuration(args[1])
			if err != nil {
				fmt.Fprintln(os.Stderr, "testall:", err)
				os.Exit(2)
			}
			deadline, args = d, args[1:]
		case strings.HasPrefix(args[0], "-"):
			flags = append(flags, args[0])
		default:
			patterns = append(patterns, args[0])
		}
	}
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	r := &run{running: map[string]bool{}, output: map[string][]string{}, failedIn: map[string]int{}}
	if err := r.all(ctx, flags, patterns); err != nil {
		fmt.Println("testall:", err)
		r.failed++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed > 0 {
		cancel()
		os.Exit(1) //nolint:gocritic // cancel has been called
	}
}

// run sums up. Keys are "package" or "package test".
type run struct {
	passed, failed, skipped int

	running  map[string]bool     // tests that have begun and not ended
	output   map[string][]string // what a test or a package has said, until it ends
	failedIn map[string]int      // failures counted for a package
}

func (r *run) all(ctx context.Context, flags, patterns []string) error {
	if err := command(ctx, os.Stdout, append([]string{"vet"}, patterns...)...); err != nil {
		fmt.Println("FAIL  go vet:", err)
		r.failed++
	}
	plain, servers, counting, err := split(ctx, patterns)
	if err != nil {
		return err
	}
	args := append([]string{"test", "-json", "-vet=off"}, flags...)
	if len(counting) > 0 && !slices.ContainsFunc(flags, choosesTests) {
		err = r.test(ctx, append(append(slices.Clone(args), "-p=1", "-parallel=1", "-run="+alone), counting...))
		args = append(args, "-skip="+alone)
	}
	if len(plain) > 0 {
		err = errors.Join(err, r.test(ctx, append(slices.Clone(args), plain...)))
	}
	if len(servers) > 0 {
		err = errors.Join(err, r.test(ctx, append(append(args, fmt.Sprint("-p=", packagesAtOnce), fmt.Sprint("-parallel=", atOnce*runtime.NumCPU())), servers...)))
	}
	return err
}

// alone are the tests that need the machine for themselves.
const alone = "^TestCostOf"

func choosesTests(flag string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	return name == "run" || name == "skip"
}

// split tells packages whose tests use the kit from those whose tests do not, and those that count instructions from both. No
// test starts servers without the kit: see internal/lint.
func split(ctx context.Context, patterns []string) (plain, servers, counting []string, err error) {
	var out strings.Builder
	const format = `{{.ImportPath}}: {{join .TestImports " "}} {{join .XTestImports " "}}`
	if err := command(ctx, &out, append([]string{"list", "-e", "-f", format}, patterns...)...); err != nil {
		return nil, nil, nil, fmt.Errorf("list packages: %w", err)
	}
	for line := range strings.Lines(out.String()) {
		name, imports, _ := strings.Cut(line, ":")
		if strings.Contains(imports, kit+"/costs") {
			counting = append(counting, name)
		}
		if strings.Contains(imports, kit) {
			servers = append(servers, name)
		} else {
			plain = append(plain, name)
		}
	}
	return plain, servers, counting, nil
}

// command runs go. At the deadline it ends go and all that go has started; servers of tests end with their test.
func command(ctx context.Context, stdout io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = stdout, os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return errors.New("the deadline has passed")
		}
		return err
	}
	return nil
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func (r *run) test(ctx context.Context, args []string) error {
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with go test
		err := command(ctx, writer, args...)
		_ = writer.Close()
		done <- err
	}()
	lines := bufio.NewReader(reader)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			r.add(e)
		default:
			fmt.Printf("%s", line)
		}
		if err != nil {
			break
		}
	}
	err := <-done
	for key := range r.running { // the deadline cut them off
		fmt.Println("FAIL ", key, "has not ended")
		fmt.Print(strings.Join(r.output[key], ""))
		r.failed++
	}
	clear(r.running)
	var exit *exec.ExitError
	if errors.As(err, &exit) && r.failed > 0 {
		return nil // it says what the counts say
	}
	return err
}

func (r *run) add(e event) {
	key := strings.TrimSpace(e.Package + " " + e.Test)
	switch e.Action {
	case "run":
		r.running[key] = true
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Print(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
		delete(r.output, key)
	}
}

func (r *run) endTest(e event, key string) {
	delete(r.running, key)
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		fmt.Print(strings.Join(r.output[key], ""))
	case "fail":
		r.failed++
		r.failedIn[e.Package]++
		fmt.Printf("FAIL  %s\n%s", key, strings.Join(r.output[key], ""))
	}
}

func (r *run) endPackage(e event) {
	for key := range r.running {
		if strings.HasPrefix(key, e.Package+" ") { // a panic or os.Exit took it along
			delete(r.running, key)
			r.failed++
			r.failedIn[e.Package]++
			fmt.Printf("FAIL  %s has not ended\n%s", key, strings.Join(r.output[key], ""))
		}
	}
	switch e.Action {
	case "fail":
		if r.failedIn[e.Package] == 0 { // no test says why
			r.failed++
			fmt.Print(strings.Join(r.output[e.Package], ""))
		}
		fmt.Printf("FAIL  %s  %.1f s\n", e.Package, e.Elapsed)
	case "pass":
		fmt.Printf("ok    %s  %.1f s\n", e.Package, e.Elapsed)
	}
}
