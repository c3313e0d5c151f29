package sink

import "testing"

func TestClientNames(t *testing.T) {
	for _, c := range []struct {
		name string
		want bool
	}{
		{"redriver.a.1.7", true},
		{"redriver.a.1.", false},
		{"redriver.a.1.2.3", false}, // partition 2 of a sink called a.1
		{"redriver.a.11.7", false},
		{"redriver.b.1.7", false},
		{"", false},
	} {
		if got := isClientOf(c.name, "a", 1); got != c.want {
			t.Errorf("%q: %v", c.name, got)
		}
	}
	if !isClientOf(clientName("a.1", 2, 3), "a.1", 2) {
		t.Error("our own name is not known")
	}
}
