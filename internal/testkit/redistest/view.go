package redistest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// nodeLine is one line of CLUSTER NODES:
//
//	<id> <ip:port@busport[,hostname]> <flags> <master id or -> <ping> <pong> <epoch> <link state> <slot> ...
//
// where a slot is "n", "n-m", or "[n->-id]" and "[n-<-id]" for one that is moving.
type nodeLine struct {
	id, addr, master string
	flags            []string
	slots            [][2]int // first and last of each range
}

func (l nodeLine) has(flag string) bool { return slices.Contains(l.flags, flag) }

func clusterNodes(ctx context.Context, n *Node) ([]nodeLine, error) {
	text, err := n.client.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.Addr(), err)
	}
	var lines []nodeLine
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], "@")
		l := nodeLine{id: fields[0], addr: addr, flags: strings.Split(fields[2], ","), master: fields[3]}
		for _, slot := range fields[8:] {
			if strings.HasPrefix(slot, "[") {
				continue
			}
			first, last, ranged := strings.Cut(slot, "-")
			if !ranged {
				last = first
			}
			from, err1 := strconv.Atoi(first)
			to, err2 := strconv.Atoi(last)
			if err1 != nil || err2 != nil {
				return nil, fmt.Errorf("read CLUSTER NODES of %s: slot %q", n.Addr(), slot)
			}
			l.slots = append(l.slots, [2]int{from, to})
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// ownersSeenBy returns who has which slots in the node's view, in a form to compare.
func ownersSeenBy(ctx context.Context, n *Node) (string, error) {
	lines, err := clusterNodes(ctx, n)
	if err != nil {
		return "", err
	}
	var owners []string
	for _, l := range lines {
		if len(l.slots) > 0 {
			owners = append(owners, fmt.Sprint(l.id, l.slots))
		}
	}
	slices.Sort(owners)
	return strings.Join(owners, " "), nil
}
