package rdb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// The readable form of a value, a line for each element: made from what a Decoder gives, and from what a server answers.
// Where a server has no order, lines are sorted.

// shown is a string as the readable form has it; a long one is told by its digest.
func shown(s string) string {
	if len(s) <= 200 {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%s...%d:%x", strconv.Quote(s[:16]), len(s), sha256.Sum256([]byte(s)))
}

func shownScore(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func shownTime(ms int64) string {
	if ms == TimeUnknown {
		return "unknown"
	}
	return strconv.FormatInt(ms, 10)
}

func shownFields(fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(" " + shown(f))
	}
	return b.String()
}

// decoded gives the readable form of what d gives.
func decoded(d *Decoder) ([]string, error) {
	lines := []string{"kind " + d.Kind().String()}
	var whole []byte
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return lines, err
		}
		switch e.Kind {
		case ElementPiece:
			if int64(len(whole)) != e.Offset {
				return lines, fmt.Errorf("piece at %d after %d bytes", e.Offset, len(whole))
			}
			whole = append(whole, e.Value...)
			if int64(len(whole)) == e.TotalBytes {
				lines = append(lines, "value "+shown(string(whole)))
			}
		case ElementItem:
			lines = append(lines, "item "+shown(string(e.Value)))
		case ElementMember:
			lines = append(lines, "member "+shown(string(e.Value)))
		case ElementScored:
			lines = append(lines, "member "+shown(string(e.Value))+" score "+shownScore(e.Score))
		case ElementField:
			lines = append(lines, fmt.Sprintf("field %s %s expires %d", shown(string(e.Field)), shown(string(e.Value)), e.ExpireAtMs))
		case ElementEntry:
			var fields []string
			for _, f := range e.Fields {
				fields = append(fields, string(f))
			}
			lines = append(lines, "entry "+e.ID.String()+shownFields(fields))
		case ElementMeta:
			lines = append(lines, fmt.Sprintf("length %d last %v", e.Meta.Length, e.Meta.LastID))
			if e.Meta.Known {
				lines = append(lines, fmt.Sprintf("first %v deleted %v added %d", e.Meta.FirstID, e.Meta.MaxDeletedID, e.Meta.EntriesAdded))
			}
		case ElementGroup:
			lines = append(lines, fmt.Sprintf("group %s last %v read %d", shown(string(e.Group)), e.ID, e.EntriesRead))
		case ElementConsumer:
			lines = append(lines, fmt.Sprintf("consumer %s %s seen %s active %s", shown(string(e.Group)), shown(string(e.Consumer)),
				shownTime(e.SeenAtMs), shownTime(e.ActiveAtMs)))
		case ElementPending:
			lines = append(lines, fmt.Sprintf("pending %s %s %v delivered %d times %d", shown(string(e.Group)), shown(string(e.Consumer)),
				e.ID, e.DeliveredAtMs, e.DeliveryCount))
		case ElementProducers:
			lines = append(lines, fmt.Sprintf("producers duration %d messages %d", e.Producers.DurationSec, e.Producers.MaxMessages))
		case ElementMessage:
			lines = append(lines, fmt.Sprintf("message %s %s %v", shown(string(e.Producer)), shown(string(e.Value)), e.ID))
		case ElementProducerTotals:
			lines = append(lines, fmt.Sprintf("added %d duplicates %d", e.Producers.Added, e.Producers.Duplicates))
		case ElementModule:
			name, version := ModuleName(e.ModuleID)
			lines = append(lines, fmt.Sprintf("module %s %d value %s", name, version, shown(string(e.Value))))
		}
	}
	return ordered(d.Kind(), lines), nil
}

func ordered(k ValueKind, lines []string) []string {
	if k == ValueSet || k == ValueHash || k == ValueZset {
		slices.Sort(lines[1:])
	}
	return lines
}

// answered gives the readable form of what a server answers for a key. It knows nothing of encodings.
func answered(t testing.TB, c *redis.Client, key string) []string {
	t.Helper()
	ctx := t.Context()
	typ, err := c.Type(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{"kind " + typ}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
	}
	switch typ {
	case "string":
		s, err := c.Get(ctx, key).Result()
		check(err)
		return append(lines, "value "+shown(s))
	case "list":
		items, err := c.LRange(ctx, key, 0, -1).Result()
		check(err)
		for _, s := range items {
			lines = append(lines, "item "+shown(s))
		}
		return lines
	case "set":
		members, err := c.SMembers(ctx, key).Result()
		check(err)
		for _, s := range members {
			lines = append(lines, "member "+shown(s))
		}
		return ordered(ValueSet, lines)
	case "zset":
		// Not the client's typed answer: it would read the score, which is what is tested.
		answer, err := c.Do(ctx, "ZRANGE", key, 0, -1, "WITHSCORES").StringSlice()
		check(err)
		for i := 0; i < len(answer); i += 2 {
			score, err := strconv.ParseFloat(answer[i+1], 64)
			check(err)
			lines = append(lines, "member "+shown(answer[i])+" score "+shownScore(score))
		}
		return ordered(ValueZset, lines)
	case "hash":
		answer, err := c.Do(ctx, "HGETALL", key).StringSlice()
		check(err)
		for i := 0; i < len(answer); i += 2 {
			lines = append(lines, fmt.Sprintf("field %s %s expires %d", shown(answer[i]), shown(answer[i+1]), fieldExpiry(ctx, c, key, answer[i])))
		}
		return ordered(ValueHash, lines)
	case "stream":
		answer, err := c.Do(ctx, "XINFO", "STREAM", key, "FULL", "COUNT", 0).Result()
		check(err)
		return append(lines, streamLines(answer)...)
	}
	t.Fatalf("key %q is a %s", key, typ)
	return nil
}

// fieldExpiry is 0 where the server knows no expiry of fields.
func fieldExpiry(ctx context.Context, c *redis.Client, key, field string) int64 {
	at, err := c.Do(ctx, "HPEXPIRETIME", key, "FIELDS", 1, field).Int64Slice()
	if err != nil || len(at) != 1 {
		return 0
	}
	return max(at[0], 0)
}

// pairs makes a map of an answer that is one in RESP3.
func pairs(answer any) map[string]any {
	m := map[string]any{}
	list, _ := answer.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = list[i+1]
	}
	return m
}

func strs(answer any) []string {
	list, _ := answer.([]any)
	var s []string
	for _, x := range list {
		s = append(s, fmt.Sprint(x))
	}
	return s
}

// streamLines gives the readable form of XINFO STREAM FULL.
func streamLines(answer any) []string {
	var lines []string
	info := pairs(answer)
	entries, _ := info["entries"].([]any)
	for _, e := range entries {
		pair, _ := e.([]any)
		lines = append(lines, "entry "+fmt.Sprint(pair[0])+shownFields(strs(pair[1])))
	}
	lines = append(lines, fmt.Sprintf("length %v last %v", info["length"], info["last-generated-id"]))
	if first, ok := info["recorded-first-entry-id"]; ok {
		lines = append(lines, fmt.Sprintf("first %v deleted %v added %v", first, info["max-deleted-entry-id"], info["entries-added"]))
	}
	groups, _ := info["groups"].([]any)
	for _, g := range groups {
		group := pairs(g)
		name := shown(fmt.Sprint(group["name"]))
		read, ok := group["entries-read"]
		if !ok || read == nil {
			read = -1
		}
		lines = append(lines, fmt.Sprintf("group %s last %v read %v", name, group["last-delivered-id"], read))
		consumers, _ := group["consumers"].([]any)
		for _, c := range consumers {
			consumer := pairs(c)
			active, ok := consumer["active-time"]
			if !ok {
				active = "unknown"
			}
			who := shown(fmt.Sprint(consumer["name"]))
			lines = append(lines, fmt.Sprintf("consumer %s %s seen %v active %v", name, who, consumer["seen-time"], active))
			pending, ok := consumer["pel"].([]any)
			if !ok {
				pending, _ = consumer["pending"].([]any) // its name before 7.0
			}
			for _, p := range pending {
				s := strs(p)
				lines = append(lines, fmt.Sprintf("pending %s %s %s delivered %s times %s", name, who, s[0], s[1], s[2]))
			}
		}
	}
	if duration, ok := info["idmp-duration"]; ok {
		lines = append(lines,
			fmt.Sprintf("producers duration %v messages %v", duration, info["idmp-maxsize"]),
			fmt.Sprintf("added %v duplicates %v", info["iids-added"], info["iids-duplicates"]))
	}
	return lines
}
