package connectors

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

const (
	sectionWorker     = "worker"
	sectionConnectors = "connectors"
	// nesting parts the levels of a key: in an environment variable's name, and for koanf, since a dot is part of a key.
	nesting   = "__"
	envPrefix = "REDRIVER_"
)

// Input is where a configuration comes from. Of one key the last of file, environment and flags holds.
type Input struct {
	// File is YAML; "" for none.
	File string
	// Environ has the form of os.Environ. REDRIVER_WORKER__KAFKA_BROKERS is kafka.brokers of the worker.
	Environ []string
	// Flags are keys of the worker that were given on the command line.
	Flags map[string]string
}

// Load reads and checks a configuration. Its error is a [ConfigError] with all faults.
func Load(in Input) (*Config, error) {
	var fs faults
	ko := koanf.New(nesting)
	tree := parser{fault: fs.add}
	if in.File != "" {
		text, err := os.ReadFile(in.File)
		if err != nil {
			fs.add(Fault{What: fmt.Sprintf("read: %v", err), Hint: "name an existing file with --config"})
			return nil, fs.err("")
		}
		if err := ko.Load(rawbytes.Provider(text), &tree); err != nil {
			fs.add(Fault{What: "is no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
			return nil, fs.err(in.File)
		}
	}
	// Neither of the other two providers can fail: they read maps.
	_ = ko.Load(env.Provider(nesting, env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return in.Environ },
		TransformFunc: func(name, value string) (string, any) {
			section, key, ok := strings.Cut(strings.TrimPrefix(name, envPrefix), nesting)
			switch {
			case !ok: // of another use, such as REDRIVER_FROM_PASSWORD
				return "", nil
			case section != "WORKER":
				fs.add(Fault{What: "environment variable " + name, Hint: "only keys of the worker can be set this way; " +
					"in a connector write ${env:NAME} as the value"})
				return "", nil
			}
			return sectionWorker + nesting + envKey(key), leaf(raw{text: value, from: "from " + name})
		},
	}), nil)
	flags := map[string]any{}
	for name, value := range in.Flags {
		flags[sectionWorker+nesting+name] = leaf(raw{text: value, from: "from --" + FlagName(name)})
	}
	_ = ko.Load(confmap.Provider(flags, nesting), nil)

	worker := section(ko.Raw()[sectionWorker])
	byName := map[string]map[string]raw{}
	if all, ok := ko.Raw()[sectionConnectors].(map[string]any); ok {
		for name, c := range all {
			byName[name] = section(c)
		}
	}
	cfg := parseConfig(worker, byName, environment(in.Environ), fs.add)
	return cfg, fs.err(in.File)
}

// NewConfig checks a configuration that a command has made itself.
func NewConfig(worker map[string]string, byName map[string]map[string]string, environ []string) (*Config, error) {
	var fs faults
	given := map[string]map[string]raw{}
	for name, c := range byName {
		given[name] = texts(c)
	}
	cfg := parseConfig(texts(worker), given, environment(environ), fs.add)
	return cfg, fs.err("")
}

// FlagName is the flag of a key of the worker: kafka.brokers is --kafka-brokers.
func FlagName(key string) string { return strings.ReplaceAll(key, ".", "-") }

// EnvName is the environment variable of a key of the worker.
func EnvName(key string) string {
	return envPrefix + "WORKER" + nesting + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func envKey(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", ".") }

func environment(environ []string) Lookup {
	vars := map[string]string{}
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func texts(m map[string]string) map[string]raw {
	out := map[string]raw{}
	for k, v := range m {
		out[k] = raw{text: v}
	}
	return out
}

// leaf hides a value from koanf, which copies what it holds field by field and loses those that are not exported.
func leaf(r raw) func() raw { return func() raw { return r } }

func section(tree any) map[string]raw {
	out := map[string]raw{}
	m, _ := tree.(map[string]any)
	for k, v := range m {
		if r, ok := v.(func() raw); ok {
			out[k] = r()
		}
	}
	return out
}

// parseConfig checks all sections, and then what no single one can tell.
func parseConfig(worker map[string]raw, byName map[string]map[string]raw, lookup Lookup, fault func(Fault)) *Config {
	cfg := &Config{Worker: newWorker(parseSection(sectionWorker, WorkerKeys(), worker, lookup, fault), func(key, what, hint string) {
		fault(Fault{sectionWorker, key, what, hint})
	})}
	if cfg.Worker.restartPause > cfg.Worker.restartPauseMax {
		fault(Fault{sectionWorker, "restart.pause", "is above restart.pause.max", "lower it, or raise the other"})
	}
	if len(byName) == 0 {
		fault(Fault{What: "has no connectors", Hint: `name at least one below "connectors:"; "redriver help config" shows an example`})
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if c, ok := parseConnector(name, byName[name], lookup, fault); ok {
			cfg.Connectors = append(cfg.Connectors, c)
		}
	}
	cfg.checkTogether(fault)
	return cfg
}

// ParseConnector checks the flat configuration of one connector. Its error is a [ConfigError].
func ParseConnector(name string, given map[string]string, environ []string) (Connector, error) {
	var fs faults
	c, _ := parseConnector(name, texts(given), environment(environ), fs.add)
	return c, fs.err("")
}

// parseConnector returns false where the kind of connector is not known, and so not its keys either.
func parseConnector(name string, given map[string]raw, lookup Lookup, fault func(Fault)) (Connector, bool) {
	where := "connector " + name
	if err := checkName(name); err != nil {
		fault(Fault{where, "", "its name: " + err.Error(), ""})
	}
	kind := given[keyType].text
	if kind != KindSource && kind != KindSink {
		// The faults of the keys that all have are found; of the others nothing is known.
		known := map[string]raw{}
		for k, v := range given {
			if !hasKey(keysOf(KindSource), k) && !hasKey(keysOf(KindSink), k) {
				fault(unknownKey(where, k, append(keysOf(KindSource), SinkKeys()...), v.where()))
			} else if hasKey(CommonKeys(), k) {
				known[k] = v
			}
		}
		parseSection(where, CommonKeys(), known, lookup, fault)
		return Connector{}, false
	}
	// A key of the other kind deserves a better word than "unknown".
	other, table := KindSink, SinkKeys()
	if kind == KindSink {
		other, table = KindSource, SourceKeys()
	}
	given = maps.Clone(given)
	for k, v := range given {
		if hasKey(table, k) && !hasKey(keysOf(kind), k) {
			fault(Fault{where, k, "is a key of a " + other + ", and this is a " + kind + v.where(), "remove it here"})
			delete(given, k)
		}
	}
	c := Connector{Name: name, Kind: kind, values: parseSection(where, keysOf(kind), given, lookup, fault)}
	c.check(func(key, what, hint string) { fault(Fault{where, key, what, hint}) })
	return c, true
}
