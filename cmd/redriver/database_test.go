package main

import "testing"

func TestDatabaseMap(t *testing.T) {
	for _, c := range []struct {
		given          string
		from, to       int
		text, unmapped string
	}{
		{"all", -1, -1, "all", "stop"},
		{"0:0,3:1", -1, -1, "0:0,3:1", "stop"},
		{"all", 3, -1, "3:0", "skip"},
		{"all", 3, 1, "3:1", "skip"},
		{"all", -1, 1, "0:1", "skip"},
	} {
		if text, unmapped, err := databaseMap(c.given, c.from, c.to); text != c.text || unmapped != c.unmapped || err != nil {
			t.Errorf("%+v: %s, %s, %v", c, text, unmapped, err)
		}
	}
	if _, _, err := databaseMap("0:0", 1, -1); err == nil {
		t.Error("both are taken")
	}
}
