package sink

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redriver/redriver/redis/topology"
)

// exactKey sets one key's exact expiry time, in one step, so that it cannot meet a client that writes the key meanwhile. The
// second answer tells that it is a hash whose fields may expire. Servers before 7.0 do not tell an expiry time but what is
// left of it, and replicate such a script by its effects only when told to.
const exactKey = `if redis.replicate_commands then redis.replicate_commands() end
local held, t = 0, redis.pcall('PEXPIRETIME', KEYS[1])
if type(t) == 'table' then
  t = redis.call('PTTL', KEYS[1])
  if t > 0 then
    local now = redis.call('TIME')
    t = t + now[1] * 1000 + math.floor(now[2] / 1000)
  end
end
if t >= tonumber(ARGV[1]) then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', t - tonumber(ARGV[2])))
  held = 1
end
if ARGV[3] == '1' and redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('OBJECT', 'ENCODING', KEYS[1]) ~= 'listpack' then
  return {held, 1}
end
return {held, 0}`

// exactFields does the same for a piece of a hash's fields, and answers where to go on and how many it changed. A small hash
// comes whole, whatever number is asked for.
const exactFields = `local page = redis.call('HSCAN', KEYS[1], ARGV[3], 'COUNT', ARGV[4], 'NOVALUES')
local fields, held = page[2], 0
for first = 1, #fields, 500 do
  local last = math.min(first + 499, #fields)
  local times = redis.call('HPEXPIRETIME', KEYS[1], 'FIELDS', last - first + 1, unpack(fields, first, last))
  for i, t in ipairs(times) do
    if t >= tonumber(ARGV[1]) then
      redis.call('HPEXPIREAT', KEYS[1], string.format('%.0f', t - tonumber(ARGV[2])), 'FIELDS', 1, fields[first + i - 1])
      held = held + 1
    end
  end
end
return {page[1], held}`

// fieldPage is how many fields of a hash one step looks at.
const fieldPage = 300

// exacter sets exact expiry times at one node.
type exacter struct {
	client       *redis.Client
	keys, fields *redis.Script
	fromMs       int64 // times from here on are held ones
	holdMs       int64
	hasFields    bool // fields of hashes expire at this node
}

func newExacter(ctx context.Context, client *redis.Client, hold time.Duration) (*exacter, error) {
	e := &exacter{
		client: client, keys: redis.NewScript(exactKey), fields: redis.NewScript(exactFields),
		fromMs: time.Now().Add(hold - MinExpiryHold/2).UnixMilli(), holdMs: hold.Milliseconds(),
	}
	for _, s := range []*redis.Script{e.keys, e.fields} {
		if err := s.Load(ctx, client).Err(); err != nil {
			return nil, fmt.Errorf("load script: %w", err)
		}
	}
	known, err := client.Do(ctx, "COMMAND", "INFO", "hpexpiretime").Slice()
	if err != nil {
		return nil, fmt.Errorf("ask for its commands: %w", err)
	}
	e.hasFields = len(known) == 1 && known[0] != nil && someFieldExpires(ctx, client)
	return e, nil
}

// someFieldExpires asks the node whether any hash has a field that expires; one that does not say is searched.
func someFieldExpires(ctx context.Context, client *redis.Client) bool {
	info, err := client.Info(ctx, "keyspace").Result()
	return err != nil || countsFieldExpiry(info)
}

// countsFieldExpiry reads what a node says of its databases. Servers that do not count such hashes are taken to have some.
func countsFieldExpiry(text string) bool {
	info := topology.ParseInfo(text)
	return slices.ContainsFunc(info.Databases(), func(db int) bool {
		for field := range strings.SplitSeq(info["db"+strconv.Itoa(db)], ",") {
			if field == "subexpiry=0" || field == "keys_with_volatile_items=0" { // Redis, Valkey
				return false
			}
		}
		return true
	})
}

// unfinished is a hash that is not searched to its end.
type unfinished struct{ key, cursor string }

// page sets the exact times of some keys and of their fields.
func (e *exacter) page(ctx context.Context, keys []string) (keysSet, fieldsSet int64, err error) {
	hasFields := "0"
	if e.hasFields {
		hasFields = "1"
	}
	replies, err := e.run(ctx, len(keys), func(p redis.Pipeliner, i int) *redis.Cmd {
		return e.keys.EvalSha(ctx, p, keys[i:i+1], e.fromMs, e.holdMs, hasFields)
	})
	if err != nil {
		return 0, 0, err
	}
	var hashes []unfinished
	for i, r := range replies {
		n, _ := r[0].(int64)
		keysSet += n
		if isHash, _ := r[1].(int64); isHash == 1 {
			hashes = append(hashes, unfinished{keys[i], "0"})
		}
	}
	for len(hashes) > 0 {
		replies, err := e.run(ctx, len(hashes), func(p redis.Pipeliner, i int) *redis.Cmd {
			return e.fields.EvalSha(ctx, p, []string{hashes[i].key}, e.fromMs, e.holdMs, hashes[i].cursor, fieldPage)
		})
		if err != nil {
			return keysSet, fieldsSet, err
		}
		var more []unfinished
		for i, r := range replies {
			n, _ := r[1].(int64)
			fieldsSet += n
			if cursor := fmt.Sprint(r[0]); cursor != "0" {
				more = append(more, unfinished{hashes[i].key, cursor})
			}
		}
		hashes = more
	}
	return keysSet, fieldsSet, nil
}

// run calls a script n times in one pipeline.
func (e *exacter) run(ctx context.Context, n int, call func(p redis.Pipeliner, i int) *redis.Cmd) ([][]any, error) {
	if n == 0 {
		return nil, nil
	}
	cmds := make([]*redis.Cmd, n)
	if _, err := e.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			cmds[i] = call(p, i)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("set expiry times: %w", err)
	}
	out := make([][]any, n)
	for i, c := range cmds {
		reply, err := c.Slice()
		if err != nil || len(reply) != 2 {
			return nil, fmt.Errorf("set expiry times: unexpected answer %v, %w", reply, err)
		}
		out[i] = reply
	}
	return out, nil
}
