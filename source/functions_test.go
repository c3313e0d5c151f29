package source

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/event"
	"github.com/redriver/redriver/internal/chain"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/source/spool"
)

const library = "#!lua name=lib\n"

func TestFunctionCommandsBecomeOnesThatMayBeRepeated(t *testing.T) {
	payload := string(rdb.AppendPayload(nil, rdb.OpFunction, rdb.AppendText(nil, []byte(library)), 11))
	load := string(resp.AppendCommand(nil, "FUNCTION", "LOAD", "REPLACE", library))
	flush := string(resp.AppendCommand(nil, "FUNCTION", "FLUSH"))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"FUNCTION", "LOAD", library}, load},
		{[]string{"function", "load", "REPLACE", library}, load},
		{[]string{"FUNCTION", "DELETE", "lib"}, string(resp.AppendCommand(nil, "FUNCTION", "DELETE", "lib"))},
		{[]string{"FUNCTION", "FLUSH", "ASYNC"}, flush},
		{[]string{"FUNCTION", "RESTORE", payload}, load},
		{[]string{"FUNCTION", "RESTORE", payload, "flush"}, flush + load},
	} {
		var l libraries
		var args [][]byte
		for _, a := range c.args {
			args = append(args, []byte(a))
		}
		if err := l.take(args); err != nil || string(l.commands) != c.want || int(l.count) != strings.Count(c.want, "$8\r\nFUNCTION") {
			t.Errorf("%q: %d commands %q, %v", c.args, l.count, l.commands, err)
		}
	}
}

func functionsRDB(codes ...string) []byte {
	b := emptyRDB()[:9:9]
	for _, c := range codes {
		b = rdb.AppendText(append(b, rdb.OpFunction), []byte(c))
	}
	return append(append(b, rdbEntry("a")...), emptyRDB()[9:]...)
}

func TestFunctionsOfSnapshotAndStreamStandInTheChain(t *testing.T) {
	w := newLaneWorld(t)
	stream := append(commands("SET "+keyIn(0)+" 1"), resp.AppendCommand(nil, "FUNCTION", "DELETE", "lib")...)
	stream = append(stream, commands("SET "+keyIn(0)+" 2")...)
	w.begin(spool.Snapshot, 100, functionsRDB(library, "#!lua name=other\n"))
	w.begin(spool.Stream, 100, stream)
	w.must(w.lane(), at(100+event.Offset(len(stream))))
	if _, err := w.standing(); err != nil {
		t.Error(err)
	}
	var c, repeated chain.Checker
	n := 0
	repeated.Mutate = func(r *kgo.Record) int {
		if len(r.Headers) > 0 && string(r.Headers[0].Value) == event.Functions.String() {
			n++
			return 2
		}
		return 1
	}
	var got []string
	spans, _ := kafka.Spans(t.Context(), w.adm, "rv.changes")
	var second error
	err := w.s.cfg.Kafka.ReadCommitted(t.Context(), "rv.changes", spans, func(r *kgo.Record) error {
		if second == nil {
			second = repeated.Check(r)
		}
		var e event.Event
		if err := codec.DecodeRaw(r.Key, r.Value, &e); err != nil {
			return err
		}
		want := []kgo.RecordHeader(nil)
		if e.Kind.IsControl() {
			want = []kgo.RecordHeader{{Key: "op", Value: []byte(e.Kind.String())}}
		}
		if !reflect.DeepEqual(r.Headers, want) {
			t.Errorf("headers of %s: %q", e.Kind, r.Headers)
		}
		if e.Kind == event.Functions {
			if r.Partition != 0 {
				t.Errorf("functions in partition %d", r.Partition)
			}
			got = append(got, string(e.Commands))
		}
		return c.Check(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	if second == nil || n != 1 {
		t.Errorf("functions that stand twice are not seen: %v", second)
	}
	if len(got) != 2 || strings.Count(got[0], "REPLACE") != 2 || !strings.Contains(got[1], "DELETE") {
		t.Errorf("functions in the log: %q", got)
	}
}

func TestModuleAuxByPolicy(t *testing.T) {
	// Module type "abcdefghi", version 1: id, "when" as a number, end.
	id := []byte{0x81}
	var n uint64
	for _, ch := range "abcdefghi" {
		n = n<<6 | uint64(strings.IndexRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", ch))
	}
	n = n<<10 | 1
	for shift := 56; shift >= 0; shift -= 8 {
		id = append(id, byte(n>>shift))
	}
	file := append(append(emptyRDB()[:9:9], 247), id...)
	file = append(append(file, 2, 1, 0), append(rdbEntry("a"), emptyRDB()[9:]...)...)
	for policy, carried := range map[string]bool{ModuleAuxStop: false, ModuleAuxSkip: true} {
		w := newLaneWorld(t)
		w.s.cfg.ModuleAux = policy
		w.begin(spool.Snapshot, 100, file)
		w.begin(spool.Stream, 100, commands("SET a 1"))
		l := w.lane()
		ok := w.run(l, 20*time.Second, func(s Snapshot) bool { return s.Committed.Offset > 100 || s.LastError != "" })
		s := l.status.read()
		if !ok || (s.LastError == "") != carried || carried && s.SkippedAux != 1 || !carried && !strings.Contains(s.LastError, "abcdefghi") {
			t.Errorf("%s: %+v", policy, s)
		}
	}
}
