package command

import (
	"errors"
	"strings"
	"testing"
)

func words(s string) (out [][]byte) {
	for w := range strings.FieldsSeq(s) {
		out = append(out, []byte(w))
	}
	return out
}

func TestDivide(t *testing.T) {
	for command, want := range map[string]string{
		"del {a}1 {b}1 {a}2":        "del {a}1 {a}2; del {b}1",
		"UNLINK x":                  "UNLINK x",
		"MSET {a}1 x {b}1 y {a}1 z": "MSET {a}1 x {a}1 z; MSET {b}1 y",
		"MSETNX {a}1 x {b}1 y":      "MSET {a}1 x; MSET {b}1 y",
		"MSETEX 3 {a}1 x {b}1 y {a}2 z NX PXAT 1000000": "MSETEX 2 {a}1 x {a}2 z PXAT 1000000; MSETEX 1 {b}1 y PXAT 1000000",
	} {
		parts, err := Divide(words(command))
		var got []string
		for _, p := range parts {
			var w []string
			for _, a := range p.Args {
				w = append(w, string(a))
			}
			got = append(got, strings.Join(w, " "))
		}
		if text := strings.Join(got, "; "); err != nil || text != want {
			t.Errorf("%s: got %s, %v", command, text, err)
		}
	}
	for command, want := range map[string]error{"RENAME a b": ErrIndivisible, "MSET a": ErrArgs, "MSETEX 9 a b": ErrArgs, "DEL": ErrArgs} {
		if _, err := Divide(words(command)); !errors.Is(err, want) {
			t.Errorf("%s: %v", command, err)
		}
	}
	// Whatever is to be split by key is divided here.
	for info := range All {
		if info.Split == SplitPerKey {
			if _, err := Divide(words(info.Name + " 1 k v")); errors.Is(err, ErrIndivisible) {
				t.Errorf("%s is not divided", info.Name)
			}
		}
	}
}
