package connectors

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// parser is koanf's parser for our files. It keeps each value as it was written, with its line: to YAML a password of
// 0123 is the number 83, and a prefix of 1e3 is 1000.
type parser struct{ fault func(Fault) }

// Unmarshal returns worker and connectors as nested maps whose leaves are raw.
func (p *parser) Unmarshal(text []byte) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	tree := map[string]any{}
	if len(doc.Content) == 0 {
		return tree, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		p.fault(Fault{What: fmt.Sprintf("holds no sections (line %d)", top.Line), Hint: `want "worker:" and "connectors:"`})
		return tree, nil
	}
	p.each("", top, func(name string, node *yaml.Node) {
		switch name {
		case sectionWorker:
			tree[name] = p.flat(sectionWorker, node)
		case sectionConnectors:
			all := map[string]any{}
			p.each(sectionConnectors, node, func(name string, node *yaml.Node) {
				all[name] = p.flat("connector "+name, node)
			})
			tree[name] = all
		default:
			p.fault(unknownKey("", name, []Key{{Name: sectionWorker}, {Name: sectionConnectors}}, fmt.Sprintf(" (line %d)", node.Line)))
		}
	})
	return tree, nil
}

// Marshal is not needed.
func (p *parser) Marshal(map[string]any) ([]byte, error) { return nil, errors.New("not supported") }

// each hands over the pairs of a mapping. An empty section is one without keys.
func (p *parser) each(where string, node *yaml.Node, fn func(name string, node *yaml.Node)) {
	node = follow(node)
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return
	}
	if node.Kind != yaml.MappingNode {
		p.fault(Fault{Section: where, What: fmt.Sprintf("holds no keys (line %d)", node.Line), Hint: `want lines of the form "key: value"`})
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i].Value
		if seen[name] {
			p.fault(Fault{where, name, fmt.Sprintf("is there twice (line %d)", node.Content[i].Line), "remove one"})
		}
		seen[name] = true
		fn(name, node.Content[i+1])
	}
}

func (p *parser) flat(where string, node *yaml.Node) map[string]any {
	out := map[string]any{}
	p.each(where, node, func(name string, node *yaml.Node) {
		v := follow(node)
		r := raw{line: node.Line}
		switch v.Kind {
		case yaml.ScalarNode:
			if v.Tag != "!!null" {
				r.text = v.Value
			}
		case yaml.SequenceNode:
			r.isList = true
			for _, item := range v.Content {
				item = follow(item)
				if item.Kind != yaml.ScalarNode {
					p.fault(Fault{where, name, fmt.Sprintf("has an item that is no text (line %d)", item.Line), "write each item as one text"})
					continue
				}
				r.list = append(r.list, item.Value)
			}
		default:
			p.fault(Fault{where, name, fmt.Sprintf("is nested (line %d)", v.Line), `keys are flat: write "` + name + `.x: value" in one line`})
			return
		}
		out[name] = leaf(r)
	})
	return out
}

func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}
