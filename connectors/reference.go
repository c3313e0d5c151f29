package connectors

import (
	"fmt"
	"strings"
)

// Table is one section of the reference.
type Table struct {
	Title, Intro string
	Keys         []Key
}

// Tables are all sections, in the order of the reference.
func Tables() []Table {
	return []Table{
		{
			"Worker", "The section `worker`. Every key can also be given as an environment variable and as a flag of `redriver run`, " +
				"where the flag wins over the variable and the variable over the file: `kafka.brokers` is `" + EnvName(keyBrokers) +
				"` and `--" + FlagName(keyBrokers) + "`.", WorkerKeys(),
		},
		{"Every connector", "Below `connectors`, each connector has a name and a flat map of keys. The name is that of its records in Kafka, of a sink's " +
			"consumer group and of its keys in the target: keep it for the connector's life.", CommonKeys()},
		{"Source", "With `type: source`.", SourceKeys()},
		{"Sink", "With `type: sink`.", SinkKeys()},
	}
}

// Example is a whole configuration; docs/examples/ has it as a file, a test compares them.
const Example = `worker:
  data.dir: /var/lib/redriver
  kafka.brokers: [kafka-1:9092, kafka-2:9092, kafka-3:9092]

connectors:
  orders-source:
    type: source
    topic.prefix: orders
    redis.address: [redis-1:6379, redis-2:6379]
    redis.username: redriver
    redis.password: ${env:ORDERS_SOURCE_PASSWORD}

  orders-sink:
    type: sink
    topic.prefix: orders
    redis.address: copy-1:6379,copy-2:6379
    redis.username: redriver
    redis.password: ${env:ORDERS_TARGET_PASSWORD}
    target.existing.keys: refuse
`

const writing = `Values are texts and numbers as YAML writes them. A list is a YAML list, or a text with commas. A duration has its unit:
` + "`500ms`, `20s`, `1h30m`" + `. A size is a number of bytes or has its unit: ` + "`16MiB`, `8GiB`" + `. In every value of a connector or
of the worker ` + "`${env:NAME}` stands for an environment variable and `${file:/path}`" + ` for what a file holds, without its last
newline; use them for passwords. Keys that do not exist are errors. All faults of a file are reported at once.

` + "`redriver config --config FILE`" + ` checks a file and prints what holds in the end, with defaults, without secrets.
`

// Markdown is docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Configuration\n\nThis page is generated from the tables that also parse and check: `go test ./connectors -update` writes it.\n\n")
	b.WriteString("```yaml\n" + Example + "```\n\n" + writing)
	for _, t := range Tables() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n", t.Title, t.Intro)
		for i := range t.Keys {
			k := &t.Keys[i]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Type, k.defaultText("`"), k.Bounds(), k.Doc)
		}
	}
	return b.String()
}

func (k *Key) defaultText(mark string) string {
	switch {
	case k.Required:
		return "required"
	case k.Default == "":
		return ""
	}
	return mark + k.Default + mark
}

// Help is the same for a terminal.
func Help() string {
	var b strings.Builder
	b.WriteString("One YAML file:\n\n")
	for line := range strings.Lines(Example) {
		b.WriteString(strings.TrimRight("  "+line, " "))
	}
	b.WriteString("\n" + strings.ReplaceAll(writing, "`", ""))
	for _, t := range Tables() {
		fmt.Fprintf(&b, "\n%s\n%s\n", strings.ToUpper(t.Title), wrap(strings.ReplaceAll(t.Intro, "`", ""), "  "))
		for i := range t.Keys {
			k := &t.Keys[i]
			facts := []string{string(k.Type)}
			switch {
			case k.Required:
				facts = append(facts, "required")
			case k.Default != "":
				facts = append(facts, "default "+k.Default)
			}
			if s := k.Bounds(); s != "" {
				facts = append(facts, s)
			}
			fmt.Fprintf(&b, "\n  %s  (%s)\n%s\n", k.Name, strings.Join(facts, "; "), wrap(strings.ReplaceAll(k.Doc, "`", ""), "      "))
		}
	}
	return b.String()
}

const helpWidth = 100

func wrap(text, indent string) string {
	var b strings.Builder
	width := helpWidth
	for word := range strings.FieldsSeq(text) {
		if width+1+len(word) > helpWidth {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.WriteString(indent + word)
			width = len(indent) + len(word)
			continue
		}
		b.WriteString(" " + word)
		width += 1 + len(word)
	}
	return b.String()
}
