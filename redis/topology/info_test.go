package topology

import (
	"slices"
	"testing"
)

func TestInfo(t *testing.T) {
	for _, c := range []struct{ text, vendor, version string }{
		{"# Server\r\nredis_version:7.0.15\r\n", "redis", "7.0.15"},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1\r\n", "valkey", "9.0.1"},
		{"redis_version:7.2.4\r\nserver_name:redict\r\nredict_version:7.3.1\r\n", "redict", "7.2.4"},
		{"", "redis", ""},
	} {
		if vendor, version := ParseInfo(c.text).Server(); vendor != c.vendor || version != c.version {
			t.Errorf("%q is %s %s", c.text, vendor, version)
		}
	}
	keyspace := ParseInfo("# Keyspace\r\ndb10:keys=1,expires=0,avg_ttl=0\r\ndb2:keys=3,expires=0\r\ndbx:keys=1\r\n")
	if dbs := keyspace.Databases(); !slices.Equal(dbs, []int{2, 10}) || keyspace["db2"] != "keys=3,expires=0" {
		t.Errorf("%v of %v", dbs, keyspace)
	}
}
