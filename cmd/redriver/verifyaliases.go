package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/redriver/redriver/redis/slot"
	"github.com/redriver/redriver/verify"
)

// seconds is a duration that may be given as a plain number of seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }

// Type is what the help shows.
func (s *seconds) Type() string { return "duration" }

// Set reads 5, 5s or 1m.
func (s *seconds) Set(text string) error {
	if n, err := strconv.Atoi(text); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("want a duration such as 500ms, or a number of seconds")
	}
	*s = seconds(d)
	return nil
}

// bigElementBytes turns RedisFullCheck's threshold, which counts elements, into one of bytes.
const bigElementBytes = 64

// aliasFlags are the options of RedisFullCheck.
func (o *verifyOptions) aliasFlags(f *pflag.FlagSet) {
	const of = " (RedisFullCheck)"
	f.StringVarP(&o.fromAddrs, "source", "s", "", "addresses of the source, host:port with ; between"+of)
	f.StringVarP(&o.toAddrs, "target", "t", "", "addresses of the target"+of)
	f.StringVarP(&o.fromPassword, "sourcepassword", "p", "", "password or user:password of the source; other users of the machine may see it"+of)
	f.StringVarP(&o.toPassword, "targetpassword", "a", "", "password or user:password of the target"+of)
	f.IntVar(&o.fromType, "sourcedbtype", 0, "0 or 1; what the source is, is found out"+of)
	f.IntVar(&o.toType, "targetdbtype", 0, "0 or 1; what the target is, is found out"+of)
	f.StringVar(&o.fromDBList, "sourcedbfilterlist", "", "databases of the source, such as 0;5, or -1 for all"+of)
	f.StringVar(&o.toDBList, "targetdbfilterlist", "", "databases of the target, in the same order"+of)
	f.IntVarP(&o.comparemode, "comparemode", "m", 0, "1: --mode full, 2: length, 3: keys, 4: full, but lengths only of large values"+of)
	f.IntVar(&o.rounds, "comparetimes", 3, "as --rounds"+of)
	f.IntVarP(&o.qps, "qps", "q", 0, "as --keys-per-second, for so many times --batchcount keys of each side"+of)
	f.IntVar(&o.page, "batchcount", 500, "as --page"+of)
	f.IntVar(&o.workers, "parallel", 4, "as --workers"+of)
	f.IntVar(&o.bigkeythreshold, "bigkeythreshold", 0, "as --large-bytes, in elements of 64 bytes"+of)
	f.StringVarP(&o.filterlist, "filterlist", "f", "", "names, and beginnings that end with *, with | between"+of)
	f.StringVar(&o.differences, "result", "", "as --differences"+of)
}

// applyAliases brings addresses into our form, before they are required.
func (o *verifyOptions) applyAliases() error {
	for _, a := range []struct {
		to   *string
		flag string
		from string
	}{{&o.from, "source", o.fromAddrs}, {&o.to, "target", o.toAddrs}} {
		if *a.to != "" || a.from == "" {
			continue
		}
		if strings.HasPrefix(a.from, "slave@") {
			return fmt.Errorf("--%s %s: masters are read: leave slave@ out", a.flag, a.from)
		}
		*a.to = "redis://" + strings.ReplaceAll(strings.TrimPrefix(a.from, "master@"), ";", ",")
	}
	return nil
}

// aliasOptions is what the aliases say that the options proper do not.
func (o *verifyOptions) aliasOptions(set func(flag string) bool, opt *verify.Options) error {
	for flag, n := range map[string]int{"sourcedbtype": o.fromType, "targetdbtype": o.toType} {
		if n != 0 && n != 1 {
			return fmt.Errorf("--%s %d: proxies are not compared through, give the addresses of the servers behind", flag, n)
		}
	}
	if set("qps") {
		opt.KeysPerSecond = 2 * o.qps * opt.Page
	}
	if set("bigkeythreshold") {
		opt.LargeBytes = int64(o.bigkeythreshold) * bigElementBytes
	}
	if set("comparemode") {
		modes := map[int]verify.Mode{1: verify.Full, 2: verify.Length, 3: verify.Keys, 4: verify.Full}
		m, ok := modes[o.comparemode]
		if !ok {
			return fmt.Errorf("--comparemode %d: want 1 to 4", o.comparemode)
		}
		opt.Mode, opt.LargeLength = m, o.comparemode == 4
	}
	for name := range strings.SplitSeq(o.filterlist, "|") {
		if name == "" {
			continue
		}
		if beginning, _, ok := strings.Cut(name, "*"); ok {
			opt.Filter.Prefixes = append(opt.Filter.Prefixes, beginning)
		} else {
			opt.Filter.Patterns = append(opt.Filter.Patterns, literal(name))
		}
	}
	if o.fromDBList != "" && o.fromDBList != "-1" {
		from := strings.ReplaceAll(o.fromDBList, ";", ",")
		if to := o.toDBList; to != "" && to != "-1" {
			var err error
			if from, err = zipDatabases(o.fromDBList, to); err != nil {
				return err
			}
		}
		dbs, err := parseDatabases(from)
		if err != nil {
			return fmt.Errorf("--sourcedbfilterlist: %w", err)
		}
		opt.Databases = dbs
	}
	return nil
}

func zipDatabases(from, to string) (string, error) {
	f, t := strings.Split(from, ";"), strings.Split(to, ";")
	if len(f) != len(t) {
		return "", fmt.Errorf("--sourcedbfilterlist names %d databases, --targetdbfilterlist %d", len(f), len(t))
	}
	for i := range f {
		f[i] += ":" + t[i]
	}
	return strings.Join(f, ","), nil
}

// literal is a pattern that matches one name.
func literal(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(`*?[]\`, name[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// splitPassword reads password or user:password.
func splitPassword(text string) (user, password string) {
	if u, p, ok := strings.Cut(text, ":"); ok {
		return u, p
	}
	return "", text
}

func splitAddrs(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(a string) bool { return a == "" })
}

// cutDatabase takes the database off an address.
func cutDatabase(flag, text string) (rest string, db int, err error) {
	base, query, _ := strings.Cut(text, "?")
	scheme := strings.Index(base, "://")
	end := strings.LastIndexByte(base, '/')
	if scheme < 0 || end < scheme+3 || end < strings.LastIndexByte(base, '@') {
		return text, -1, nil
	}
	rest = base[:end]
	if query != "" {
		rest += "?" + query
	}
	if base[end+1:] == "" {
		return rest, -1, nil
	}
	db, err = strconv.Atoi(base[end+1:])
	if err != nil || db < 0 {
		return text, -1, fmt.Errorf("%s: the number of a database must follow the /", flag)
	}
	return rest, db, nil
}

// databasesOf is what the addresses alone say.
func databasesOf(from, to int) []verify.Databases {
	if from < 0 && to < 0 {
		return nil
	}
	return []verify.Databases{{From: max(from, 0), To: max(to, 0)}}
}

// parseDatabases reads 0,2 and 3:0.
func parseDatabases(text string) ([]verify.Databases, error) {
	var out []verify.Databases
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			continue
		}
		from, to, two := strings.Cut(strings.TrimSpace(word), ":")
		if !two {
			to = from
		}
		f, err1 := strconv.Atoi(from)
		t, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("databases %q: want numbers with commas, such as 0,2 or 3:0", text)
		}
		out = append(out, verify.Databases{From: f, To: t})
	}
	return out, nil
}

func parseSlots(text string) (slot.Set, error) {
	s, err := slot.ParseSet(strings.ReplaceAll(text, ",", " "))
	if err != nil {
		return s, fmt.Errorf("--slots: %w", err)
	}
	return s, nil
}
