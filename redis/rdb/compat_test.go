package rdb

import (
	"strings"
	"testing"
)

// TestLeastVersion: with the least version in its footer a payload is loaded by every server that knows its type, and with
// one less the answer would be another; a server that does not know the type refuses it.
func TestLeastVersion(t *testing.T) {
	all := corpus(t)
	for _, version := range corpusVersions {
		t.Run(version, func(t *testing.T) {
			c := versionServer(t, version)
			own := serverFormat(t, c)
			loaded, refused := map[byte]int{}, map[byte]int{}
			for _, v := range all {
				if v.typ == typeModule2 {
					continue
				}
				payload := AppendPayload(nil, v.typ, v.value, MinVersion(v.typ, v.format))
				err := c.RestoreReplace(t.Context(), "k", 0, string(payload)).Err()
				want := own.Loads(v.typ, v.format)
				switch {
				case want && err != nil:
					t.Errorf("%s, type %d: %v", v.name, v.typ, err)
				case !want && err == nil:
					t.Errorf("%s, type %d: loaded, although %+v is not said to know it", v.name, v.typ, own)
				case !want && !strings.Contains(err.Error(), "Bad data format") && !strings.Contains(err.Error(), "payload version"):
					t.Errorf("%s, type %d: %v", v.name, v.typ, err)
				}
				if want {
					loaded[v.typ]++
				} else {
					refused[v.typ]++
				}
			}
			if len(loaded) < 5 {
				t.Error("hardly anything was loaded")
			}
			t.Logf("%+v loads %v, refuses %v", own, loaded, refused)
		})
	}
}
