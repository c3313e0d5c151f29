package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

// parsed is what arguments come to.
func parsed(t *testing.T, args ...string) (verifyOptions, verify.Options, error) {
	t.Helper()
	var o verifyOptions
	c := &cobra.Command{}
	o.flags(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	if err := o.applyAliases(); err != nil {
		return o, verify.Options{}, err
	}
	opt, err := o.options(c.Flags().Changed)
	if err == nil {
		err = opt.Validate()
	}
	return o, opt, err
}

// Every option of RedisFullCheck comes to what the option proper does.
func TestAliases(t *testing.T) {
	for _, c := range []struct{ alias, proper string }{
		{"-s 10.0.0.1:1;10.0.0.2:2", "--from redis://10.0.0.1:1,10.0.0.2:2"},
		{"--source master@10.0.0.1:1", "--from redis://10.0.0.1:1"},
		{"--target 10.0.0.1:1", "--to redis://10.0.0.1:1"},
		{"-t 10.0.0.1:1", "--to redis://10.0.0.1:1"},
		{"--sourcedbtype 1 --targetdbtype 0", ""},
		{"--sourcedbfilterlist 0;5", "--databases 0,5"},
		{"--sourcedbfilterlist 0;5 --targetdbfilterlist 1;2", "--databases 0:1,5:2"},
		{"--sourcedbfilterlist -1 --targetdbfilterlist -1", ""},
		{"--comparetimes 5", "--rounds 5"},
		{"-m 1", "--mode full"},
		{"--comparemode 2", "--mode length"},
		{"--comparemode 3", "--mode keys"},
		{"--qps 10 --batchcount 256", "--keys-per-second 5120 --page 256"},
		{"-q 3", "--keys-per-second 3000"},
		{"--interval 5", "--interval 5s"},
		{"--parallel 9", "--workers 9"},
		{"--bigkeythreshold 1000", "--large-bytes 64000"},
		{"--bigkeythreshold 0", "--large-bytes 0"},
		{"--filterlist abc*|m*", "--prefix abc --prefix m"},
		{"-f efg|a[b?]", `--match efg --match a\[b\?\]`},
		{"--result f", "--differences f"},
	} {
		alias, a, err1 := parsed(t, strings.Fields(c.alias)...)
		proper, p, err2 := parsed(t, strings.Fields(c.proper)...)
		if err1 != nil || err2 != nil {
			t.Errorf("%s: %v, %v", c.alias, err1, err2)
		}
		if d := cmp.Diff(a, p, cmp.Comparer(func(x, y slot.Set) bool { return x.String() == y.String() })); d != "" {
			t.Errorf("%s is not %s:\n%s", c.alias, c.proper, d)
		}
		if alias.from != proper.from || alias.to != proper.to || alias.differences != proper.differences {
			t.Errorf("%s is not %s: %+v, %+v", c.alias, c.proper, alias, proper)
		}
	}
	if _, opt, err := parsed(t, "--comparemode", "4"); err != nil || opt.Mode != verify.Full || !opt.LargeLength {
		t.Errorf("mode 4: %+v, %v", opt, err)
	}
	for _, bad := range []string{"--comparemode 5", "--sourcedbtype 2", "--source slave@a:1", "--sourcedbfilterlist 0;1 --targetdbfilterlist 0", "--sourcedbfilterlist x"} {
		if _, _, err := parsed(t, strings.Fields(bad)...); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if user, password := splitPassword("me:a:b"); user != "me" || password != "a:b" {
		t.Error(user, password)
	}
}

// What contradicts itself is refused before anything is asked.
func TestVerifyRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--mode deep":                      `mode "deep"`,
		"--mode sample":                    "want at least 1",
		"--sample 5 --mode full":           "needs the mode sample",
		"--sample 5 --state f":             "no state",
		"--slots 1-20000":                  "--slots",
		"--databases 1:2,3:2":              "compared with two",
		"--databases x":                    "want numbers",
		"--type strings":                   `type "strings"`,
		"--rounds -1":                      "rounds -1",
		"--keys-per-second -5":             "keys per second -5",
		"--page -1 --workers -2":           "workers -2",
		"--ttl-tolerance -1s":              "TTL tolerance",
		"--large-bytes -1":                 "large bytes -1",
		"--bytes-per-second -1 --rounds 2": "bytes per second -1",
	} {
		if _, _, err := parsed(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	for args, want := range map[string]string{
		"verify --to redis://a:1": "--from", "verify --from redis://a:1/x --to redis://b:1": "--from", "verify --source slave@a:1 --target b:1": "slave@",
		"verify --from redis://a:1 --to redis://b:1 --expiry-hold soon": "--expiry-hold", "verify --no-such": "no-such",
	} {
		var out, errs strings.Builder
		code := execute(t.Context(), strings.Fields(args), nil, &out, &errs)
		if code == verifySame || code == verifyDifferent || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: code %d, %s", args, code, errs.String())
		}
	}
}

// The page for users of RedisFullCheck has exactly the options that are understood.
func TestVerifyPageAndFlagsAreInStep(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "verify.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	if !strings.Contains(page, "ACL SETUSER verify on >secret "+verify.Rights+"\n") {
		t.Error("the rights are others")
	}
	var o verifyOptions
	c := &cobra.Command{}
	o.flags(c)
	rows := regexp.MustCompile("(?m)^\\| `--([a-z]+)`(?:, `-([a-zA-Z])`)? \\| (.*) \\|$").FindAllStringSubmatch(page, -1)
	inTable := map[string]bool{}
	for _, row := range rows {
		name, letter, meaning := row[1], row[2], row[3]
		inTable[name] = true
		f := c.Flags().Lookup(name)
		none := strings.HasPrefix(meaning, "none") || name == "version"
		switch {
		case none && f != nil:
			t.Errorf("--%s is understood, and the page says %q", name, meaning)
		case none:
		case f == nil:
			t.Errorf("--%s is not understood, and the page says %q", name, meaning)
		case f.Shorthand != letter:
			t.Errorf("--%s is -%s, on the page -%s", name, f.Shorthand, letter)
		}
		for _, other := range regexp.MustCompile("`--([a-z-]+)").FindAllStringSubmatch(meaning, -1) {
			if c.Flags().Lookup(other[1]) == nil {
				t.Errorf("--%s: the page speaks of --%s, which there is not", name, other[1])
			}
		}
	}
	if len(rows) < 24 {
		t.Errorf("%d rows", len(rows))
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasSuffix(f.Usage, "(RedisFullCheck)") && !inTable[f.Name] {
			t.Errorf("the page lacks --%s", f.Name)
		}
	})
	for _, k := range verify.Kinds {
		if !strings.Contains(page, "| `"+string(k)+"` |") {
			t.Errorf("the page lacks the kind %s", k)
		}
	}
	for _, m := range verify.Modes {
		if !regexp.MustCompile("(?m)^\\| `" + string(m) + "`").MatchString(page) {
			t.Errorf("the page lacks the mode %s", m)
		}
	}
}

func TestVerifyProgressLine(t *testing.T) {
	for want, p := range map[string]verify.Progress{
		"1,500 of about 4,000 keys listed at both sides, 700 compared, 3 differences, 2.0 MiB moved, 1m30s left": {
			Round: 1, Scanned: 1500, Total: 4000, Compared: 700, Differences: 3, Bytes: 2 << 20, Left: 90*time.Second + 300*time.Millisecond,
		},
		"round 2: 12 differences": {Round: 2, Differences: 12},
	} {
		if got := verifyLine(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
