package rdb

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEncodeTypes shows which type is chosen for which target, and what no target of that version can have.
func TestEncodeTypes(t *testing.T) {
	field := func(expireAtMs int64) *Element {
		return &Element{Kind: ElementField, Field: []byte("f"), Value: []byte("v"), ExpireAtMs: expireAtMs}
	}
	for _, c := range []struct {
		kind   ValueKind
		target Format
		add    []*Element
		want   byte
		err    error
	}{
		{ValueString, Format{Version: 2}, []*Element{{Kind: ElementPiece, Value: []byte("v")}}, typeString, nil},
		{ValueList, Format{Version: 2}, []*Element{{Kind: ElementItem, Value: []byte("v")}}, typeList, nil},
		{ValueSet, Format{Version: 80, Valkey: true}, []*Element{{Kind: ElementMember, Value: []byte("v")}}, typeSet, nil},
		{ValueZset, Format{Version: 7}, []*Element{{Kind: ElementScored, Value: []byte("v")}}, typeZset, nil},
		{ValueZset, Format{Version: 8}, []*Element{{Kind: ElementScored, Value: []byte("v")}}, typeZset2, nil},
		{ValueHash, Format{Version: 12}, []*Element{field(0)}, typeHash, nil},
		{ValueHash, Format{Version: 11}, []*Element{field(0), field(5)}, 0, ErrNoEncoding},
		{ValueHash, Format{Version: 12}, []*Element{field(0), field(5), field(0)}, typeHashTTL, nil},
		{ValueHash, Format{Version: 80, Valkey: true}, []*Element{field(0), field(5), field(0)}, typeHashTTLValkey, nil},
		{ValueStream, Format{Version: 9}, []*Element{{Kind: ElementMeta, Meta: StreamMeta{Known: true}}}, typeStream, nil},
		{ValueStream, Format{Version: 10}, []*Element{{Kind: ElementMeta, Meta: StreamMeta{Known: true}}}, typeStream2, nil},
		{ValueStream, Format{Version: 11}, []*Element{{Kind: ElementMeta, Meta: StreamMeta{Known: true}}}, typeStream3, nil},
		{ValueStream, Format{Version: 11}, []*Element{{Kind: ElementMeta}}, typeStream, nil},
		{ValueStream, Format{Version: 13}, []*Element{{Kind: ElementMeta, Meta: StreamMeta{Known: true}}, {Kind: ElementProducers}, {Kind: ElementProducerTotals}}, typeStream4, nil},
		{ValueStream, Format{Version: 80, Valkey: true}, []*Element{{Kind: ElementMeta, Meta: StreamMeta{Known: true}}, {Kind: ElementProducers}}, typeStream3, nil},
		{ValueModule, Format{Version: 12}, nil, 0, ErrNoEncoding},
		{ValueHash, Format{Version: 12}, []*Element{{Kind: ElementModule}}, 0, ErrNoEncoding},
	} {
		var e Encoder
		err := e.Reset(c.kind, c.target)
		for _, el := range c.add {
			if err == nil {
				err = e.Append(el)
			}
		}
		if !errors.Is(err, c.err) {
			t.Errorf("%v for %+v: %v", c.kind, c.target, err)
		}
		if err != nil {
			continue
		}
		typ, value := e.Value()
		if typ != c.want {
			t.Errorf("%v for %+v: type %d", c.kind, c.target, typ)
		}
		d := NewDecoder(DecoderConfig{})
		d.ResetBytes(typ, value, c.target)
		if err := drain(d); err != nil {
			t.Errorf("%v for %+v: %v", c.kind, c.target, err)
		}
	}
}

// TestEncodeCounts crosses the sizes at which a length grows, and has one Encoder make all values.
func TestEncodeCounts(t *testing.T) {
	var e Encoder
	d := NewDecoder(DecoderConfig{})
	for _, n := range []int{0, 1, 63, 64, 16383, 16384, 70000} {
		for _, expireAtMs := range []int64{0, 1795251266000} {
			if err := e.Reset(ValueHash, Format{Version: 12}); err != nil {
				t.Fatal(err)
			}
			want := []string{"kind hash"}
			for i := range n {
				field, value := strconv.Itoa(i), strconv.Itoa(i*i)
				at := int64(0)
				if i%3 == 2 {
					at = expireAtMs
				}
				if err := e.AppendField([]byte(field), []byte(value), at); err != nil {
					t.Fatal(err)
				}
				want = append(want, fmt.Sprintf("field %q %q expires %d", field, value, at))
			}
			size := e.SizeBytes()
			typ, value := e.Value()
			if over := len(value) - size; over < 1 || over > frontBytes {
				t.Errorf("%d fields: %d bytes, %d announced", n, len(value), size)
			}
			d.ResetBytes(typ, value, Format{Version: 12})
			got, err := decoded(d)
			slices.Sort(want[1:])
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%d fields: %v %s", n, err, cmp.Diff(want, got))
			}
		}
	}
}

// TestEncodeScores shows that every score keeps its bits, as text too.
func TestEncodeScores(t *testing.T) {
	scores := []float64{0, math.Copysign(0, -1), 1, -1, 0.1, 1.0 / 3, math.MaxFloat64, 5e-324, -1e21, 1 << 53, math.Inf(1), math.Inf(-1), math.NaN()}
	for _, version := range []int{6, 12} {
		var e Encoder
		if err := e.Reset(ValueZset, Format{Version: version}); err != nil {
			t.Fatal(err)
		}
		for _, score := range scores {
			e.AppendScored([]byte("m"), score)
		}
		typ, value := e.Value()
		d := NewDecoder(DecoderConfig{})
		d.ResetBytes(typ, value, Format{Version: version})
		for _, want := range scores {
			el, err := d.Next()
			if err != nil || math.Float64bits(el.Score) != math.Float64bits(want) {
				t.Errorf("version %d: %v became %+v: %v", version, want, el, err)
			}
		}
	}
}

// TestEncodeNodes shows that a long stream is cut into nodes, and comes back.
func TestEncodeNodes(t *testing.T) {
	var e Encoder
	if err := e.Reset(ValueStream, Format{Version: 11}); err != nil {
		t.Fatal(err)
	}
	want := []string{"kind stream"}
	for i := range 1000 {
		id := StreamID{Ms: uint64(1000 + i/7), Seq: uint64(7 + i%7)}
		fields := []string{"f", strconv.Itoa(i), "g", words(i % 50)}
		if i%10 == 3 {
			fields = fields[:2]
		}
		if i%300 == 299 {
			fields = append(fields, "large", words(20000))
		}
		el := Element{Kind: ElementEntry, ID: id}
		for _, f := range fields {
			el.Fields = append(el.Fields, []byte(f))
		}
		if err := e.Append(&el); err != nil {
			t.Fatal(err)
		}
		want = append(want, "entry "+id.String()+shownFields(fields))
	}
	if err := e.Append(&Element{Kind: ElementMeta, Meta: StreamMeta{Length: 1000, Known: true, EntriesAdded: 1000}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "length 1000 last 0-0", "first 0-0 deleted 0-0 added 1000")
	typ, value := e.Value()
	if value[0] < 10 {
		t.Errorf("%d nodes", value[0])
	}
	d := NewDecoder(DecoderConfig{})
	d.ResetBytes(typ, value, Format{Version: 11})
	if got, err := decoded(d); err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %s", err, cmp.Diff(want, got))
	}
}
