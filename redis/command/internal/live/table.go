package live

import (
	"fmt"
	"slices"
	"strings"
)

// Command is what a server says about a command. Spec is a key specification with
// the server's own names.
type Command struct {
	Name              string // upper case, "XGROUP CREATE"
	Arity             int
	Flags             []string
	First, Last, Step int
	Group             string
	Specs             []Spec
	Subcommands       []Command
	Legacy            bool // Specs are made from First, Last and Step
}

// Spec is one key specification.
type Spec struct {
	Flags   []string
	Begin   string // index, keyword, unknown
	Index   int
	Keyword string
	From    int
	Find    string // range, keynum, unknown
	Last    int
	Step    int
	Limit   int
	NumAt   int
	FirstAt int
}

// Commands asks for the server's table, sorted by name. Servers before 7.0 tell no
// specs: what first, last and step say stands for them.
func (s *Server) Commands() ([]Command, error) {
	reply, err := s.Do("COMMAND")
	if err != nil {
		return nil, fmt.Errorf("ask for commands: %w", err)
	}
	docs, err := s.Do("COMMAND", "DOCS")
	if err != nil && !IsServerError(err) {
		return nil, fmt.Errorf("ask for documentation: %w", err)
	}
	all := commands(reply, dict(docs))
	if len(all) == 0 {
		return nil, fmt.Errorf("read commands: none in %T", reply)
	}
	return all, nil
}

func commands(reply any, docs map[string]any) []Command {
	var all []Command
	for _, row := range list(reply) {
		c := list(row)
		if len(c) < 6 {
			continue
		}
		name := text(c[0])
		cmd := Command{
			Name: strings.ToUpper(strings.ReplaceAll(name, "|", " ")), Arity: number(c[1]), Flags: texts(c[2]),
			First: number(c[3]), Last: number(c[4]), Step: number(c[5]),
		}
		doc := dict(docs[name])
		cmd.Group = text(doc["group"])
		if len(c) >= 10 {
			for _, spec := range list(c[8]) {
				cmd.Specs = append(cmd.Specs, newSpec(dict(spec)))
			}
			cmd.Subcommands = commands(c[9], dict(doc["subcommands"]))
		} else {
			cmd.Legacy, cmd.Specs = true, legacySpecs(cmd)
		}
		if slices.Contains(cmd.Flags, "module") && slices.Contains(cmd.Flags, "movablekeys") {
			// The module finds keys by a function of its own.
			cmd.Specs = append(cmd.Specs, Spec{Begin: "unknown", Find: "unknown"})
		}
		all = append(all, cmd)
	}
	slices.SortFunc(all, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func legacySpecs(cmd Command) []Spec {
	switch {
	case slices.Contains(cmd.Flags, "movablekeys"):
		return []Spec{{Begin: "unknown", Find: "unknown"}}
	case cmd.First == 0:
		return nil
	}
	last := cmd.Last
	if last > 0 {
		last -= cmd.First
	}
	return []Spec{{Begin: "index", Index: cmd.First, Find: "range", Last: last, Step: cmd.Step}}
}

func newSpec(d map[string]any) Spec {
	begin, find := dict(d["begin_search"]), dict(d["find_keys"])
	b, f := dict(begin["spec"]), dict(find["spec"])
	s := Spec{Flags: texts(d["flags"]), Begin: text(begin["type"]), Find: text(find["type"])}
	s.Index, s.Keyword, s.From = number(b["index"]), text(b["keyword"]), number(b["startfrom"])
	s.Last, s.Step, s.Limit = number(f["lastkey"]), number(f["keystep"]), number(f["limit"])
	s.NumAt, s.FirstAt = number(f["keynumidx"]), number(f["firstkey"])
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) int {
	n, _ := v.(int64)
	return int(n)
}

func texts(v any) (all []string) {
	for _, e := range list(v) {
		all = append(all, text(e))
	}
	slices.Sort(all)
	return all
}

// dict reads an array of names and values, as maps are sent in RESP2.
func dict(v any) map[string]any {
	d := map[string]any{}
	for pair := range slices.Chunk(list(v), 2) {
		if len(pair) == 2 {
			d[text(pair[0])] = pair[1]
		}
	}
	return d
}
