package verify_test

import (
	"strings"
	"testing"

	"github.com/redriver/redriver/internal/testkit"
	"github.com/redriver/redriver/verify"
)

const secret = "hunter2"

// What a user may not do is worked around where that is possible, and named where it is not.
func TestRights(t *testing.T) {
	t.Parallel()
	w := testkit.New(t)
	cluster := w.ClusterWith(clusterOf("redis-7.4", 1))
	from, to := w.Server("redis-7.4").Client(), cluster.Client()
	both := []client{from, to}
	plant(t, both)
	do(t, both, "set app:1 v", "hset app:2 f v", "set app:3 v")
	do(t, both[1:], "set app:3 w")
	servers := []client{from, cluster.Masters()[0].Client()}
	user := func(name string, rules ...string) {
		t.Helper()
		for _, c := range servers {
			args := []any{"acl", "setuser", name, "on", ">" + secret}
			for _, r := range append(strings.Fields(verify.Rights), rules...) {
				args = append(args, r)
			}
			if err := c.Do(t.Context(), args...).Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for name, rule := range map[string]string{
		"noscan": "-scan", "nodump": "-dump", "nomemory": "-memory|usage", "noslots": "-cluster|getkeysinslot", "nocount": "-cluster|countkeysinslot",
		"nofunctions": "-function|list", "noeval": "-eval", "noinfo": "-info", "nonodes": "-cluster|nodes",
	} {
		user(name, rule)
	}
	user("enough")
	user("neither", "-memory|usage", "-dump")
	user("app", "resetkeys", "%R~app:*")
	for _, c := range []struct {
		user string
		args []string
		code int
		says []string
	}{
		{"enough", nil, different, nil},
		{"enough", []string{"--mode", "digest"}, different, nil},
		{"noscan", nil, failed, []string{"scan", "NOPERM", "--expiry-hold"}},
		{"noscan", []string{"--expiry-hold", "0s"}, failed, []string{"source", "scan", "NOPERM", "+@read"}},
		{"nodump", nil, different, nil},
		{"nomemory", nil, different, nil},
		{"neither", nil, different, nil},
		{"noslots", nil, different, nil},
		{"nocount", nil, different, nil},
		{"nofunctions", nil, different, []string{"libraries of functions are not compared", "+function|list"}},
		{"noeval", []string{"--mode", "digest"}, different, []string{"values are transferred"}},
		{"noinfo", []string{"--expiry-hold", "0s"}, failed, []string{"INFO", "databases", "--databases"}},
		{"noinfo", []string{"--expiry-hold", "0s", "--databases", "0"}, different, nil},
		{"nonodes", nil, failed, []string{"target", "cluster|nodes"}},
		{"app", nil, failed, []string{"NOPERM", "read key", "--prefix", "~*"}},
		{"app", []string{"--prefix", "app:"}, different, nil},
		{"enough wrong", nil, failed, []string{"WRONGPASS", "password"}},
		{"enough none", nil, failed, []string{"NOAUTH", "password"}},
		{"default", nil, failed, []string{"WRONGPASS", "password"}},
	} {
		t.Run(strings.Join(append([]string{c.user}, c.args...), " "), func(t *testing.T) {
			name, kind, _ := strings.Cut(c.user, " ")
			env := []string{"REDRIVER_FROM_PASSWORD=" + secret, "REDRIVER_TO_PASSWORD=" + secret}
			as := name + "@"
			switch kind {
			case "wrong":
				env = []string{"REDRIVER_FROM_PASSWORD=hunter3", "REDRIVER_TO_PASSWORD=hunter3"}
			case "none":
				env, as = nil, ""
			}
			if kind == "none" || name == "default" {
				lock(t, servers)
			}
			args := append([]string{"--from", "redis://" + as + at(from).Addrs[0], "--to", "redis://" + as + at(to).Addrs[0], "--interval", "20ms"}, c.args...)
			run := start(t, w, env, args...)
			s := run.ends(c.code)
			run.says(c.says...)
			if c.code == different && (s.Total() != 1 || s.Counts[verify.Value] != 1) {
				t.Errorf("%s", run.LogTail(5))
			}
			if strings.Contains(run.Log(), "hunter") {
				t.Errorf("it shows a password: %s", run.Log())
			}
		})
	}
}

// lock makes the default user need a password, for as long as a test runs.
func lock(t *testing.T, cs []client) {
	t.Helper()
	for _, c := range cs {
		if err := c.Do(t.Context(), "acl", "setuser", "default", "resetpass", ">other").Err(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Do(t.Context(), "acl", "setuser", "default", "nopass").Err() })
	}
}
