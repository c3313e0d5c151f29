package main

import (
	"fmt"
	"slices"
	"strings"
)

// The parts that -parts names.
const (
	partSyncA       = "sync-a" // full synchronisation: many small strings
	partSyncB       = "sync-b" // all types
	partSyncC       = "sync-c" // a few huge keys
	partSet         = "set"    // the stream at full speed: SET alone
	partMixed       = "mixed"  // a mix of commands
	partCheckpoints = "checkpoints"
	partLatency     = "latency"
	partIdle        = "idle"
	partShards      = "shards"
	partBuffer      = "buffer"
)

var allParts = []string{
	partSyncA, partSet, partMixed, partCheckpoints, partLatency, partIdle, partSyncB, partSyncC, partShards, partBuffer,
}

// partGroups are names for several parts.
var partGroups = map[string][]string{
	"all":    allParts,
	"sync":   {partSyncA, partSyncB, partSyncC},
	"stream": {partSet, partMixed},
}

// capacityParts are what the capacity page is made of.
var capacityParts = append(partGroups["sync"], partGroups["stream"]...)

// parseParts reads the value of -parts.
func parseParts(text string) (parts []string, err error) {
	for name := range strings.SplitSeq(text, ",") {
		group := partGroups[name]
		if group == nil && slices.Contains(allParts, name) {
			group = []string{name}
		}
		if group == nil {
			return nil, fmt.Errorf("-parts: no part %q, there are %s, and sync, stream, all", name, strings.Join(allParts, ", "))
		}
		parts = append(parts, group...)
	}
	slices.Sort(parts)
	return slices.Compact(parts), nil
}

// has tells whether one of these parts is to be measured.
func (c *config) has(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(c.parts, p) })
}
