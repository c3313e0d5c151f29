package slot

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSetText(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"0-5460 5462":         "0-5460 5462",
		" 7\t5 6 ":            "5-7",
		"0-16383":             "0-16383",
		"63-64 128":           "63-64 128",
		"10-20 15-30 31":      "10-31",
		"16383 0":             "0 16383",
		"1 3 5-5":             "1 3 5",
		"0-63 64-127 129-130": "0-127 129-130",
	} {
		set, err := ParseSet(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.String(); got != want {
			t.Errorf("ParseSet(%q) = %q, want %q", text, got, want)
		}
		if again, err := ParseSet(set.String()); err != nil || again != set {
			t.Errorf("%q does not come back: %q, %v", text, again.String(), err)
		}
	}
	for _, text := range []string{"x", "16384", "5-", "-5", "5-4", "1-2-3", "+1", "70000", "1,2", "0-16384"} {
		if set, err := ParseSet(text); err == nil || !set.IsEmpty() {
			t.Errorf("ParseSet(%q) = %q, %v", text, set.String(), err)
		}
	}
}

func TestSetAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() (Set, map[Slot]bool) {
		var set Set
		want := map[Slot]bool{}
		for range 20 {
			first := Slot(rnd.IntN(Count))
			last := min(first+Slot(rnd.IntN(500)), Count-1)
			set.AddRange(Range{first, last})
			for s := first; s <= last; s++ {
				want[s] = true
			}
		}
		return set, want
	}
	for range 20 {
		a, inA := random()
		b, inB := random()
		both, either, minus := a.Intersect(&b), a.Union(&b), a.Minus(&b)
		for s := range Slot(Count) {
			if a.Has(s) != inA[s] || both.Has(s) != (inA[s] && inB[s]) ||
				either.Has(s) != (inA[s] || inB[s]) || minus.Has(s) != (inA[s] && !inB[s]) {
				t.Fatalf("slot %d is wrong", s)
			}
		}
		slots := slices.Collect(a.All())
		if len(slots) != len(inA) || a.Len() != len(inA) || !slices.IsSorted(slots) {
			t.Fatalf("All yields %d slots, Len %d, want %d", len(slots), a.Len(), len(inA))
		}
	}
}

func TestSetBeyondCount(t *testing.T) {
	var set Set
	set.Add(Count)
	set.AddRange(Range{First: Count, Last: 65535})
	set.AddRange(Range{First: 9, Last: 3})
	if !set.IsEmpty() || set.Has(65535) || set.Ranges() != nil {
		t.Errorf("set holds %q", set.String())
	}
	set.AddRange(Range{First: 16380, Last: 65535})
	if got := set.String(); got != "16380-16383" {
		t.Errorf("set holds %q", got)
	}
	for s := range set.All() {
		if s != 16380 {
			t.Errorf("break did not stop at %d", s)
		}
		break
	}
}

func FuzzParseSet(f *testing.F) {
	f.Add("0-5460 5462")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseSet(text)
		if err != nil {
			return
		}
		if again, err := ParseSet(set.String()); err != nil || again != set {
			t.Errorf("%q does not come back: %v", text, err)
		}
	})
}
