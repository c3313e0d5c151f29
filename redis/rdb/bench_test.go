package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// benchValue is a value as a server would have it, of a size that is common.
type benchValue struct {
	name  string
	typ   byte
	value []byte
}

func benchValues(b *testing.B) []benchValue {
	b.Helper()
	var (
		hash, set, zset, packed, scored, items []byte
		e                                      Encoder
	)
	hash, set, zset = []byte{10}, []byte{10}, []byte{10}
	intset := []byte("\x02\x00\x00\x00\x0a\x00\x00\x00")
	for i := range 10 {
		field, value := []byte(fmt.Sprintf("field:%d", i)), []byte(fmt.Sprintf("value of field %d", i))
		hash = AppendText(AppendText(hash, field), value)
		set = AppendText(set, value)
		zset = append(AppendText(zset, value), "\x00\x00\x00\x00\x00\x00\xf0\x3f"...)
		packed = appendListpackText(appendListpackText(packed, field), value)
		scored = appendListpackText(appendListpackText(scored, value), []byte("1795251266.25"))
		items = appendListpackInt(appendListpackText(items, value), int64(i*1000))
		intset = append(intset, byte(i), 1)
	}
	if err := e.Reset(ValueStream, Format{Version: versionStream3}); err != nil {
		b.Fatal(err)
	}
	for i := range uint64(20) {
		el := Element{Kind: ElementEntry, ID: StreamID{Ms: 1795251266000 + i}, Fields: [][]byte{[]byte("a"), []byte("value"), []byte("b"), []byte("12")}}
		if err := e.Append(&el); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Append(&Element{Kind: ElementMeta, Meta: StreamMeta{Length: 20, Known: true}}); err != nil {
		b.Fatal(err)
	}
	_, stream := e.Value()
	lp := func(cells []byte) []byte {
		n := len(cells) + 7
		p := append([]byte{byte(n), byte(n >> 8), 0, 0, 20, 0}, cells...)
		return append(p, listpackEnd)
	}
	var lzf []byte
	for _, v := range corpus(b) {
		if v.name == "redis-7.0/hash-small" {
			lzf = v.value
		}
	}
	return []benchValue{
		{"string-100", typeString, AppendText(nil, bytes.Repeat([]byte("v"), 100))},
		{"string-int", typeString, []byte("\xc1\x39\x30")},
		{"hash-table-10", typeHash, hash},
		{"hash-packed-10", typeHashListpack, AppendText(nil, lp(packed))},
		{"hash-compressed-42", typeHashListpack, lzf},
		{"set-table-10", typeSet, set},
		{"set-numbers-10", typeSetIntset, AppendText(nil, intset)},
		{"zset-table-10", typeZset2, zset},
		{"zset-packed-10", typeZsetListpack, AppendText(nil, lp(scored))},
		{"list-20", typeListQuick2, AppendText([]byte("\x01\x02"), lp(items))},
		{"stream-20", typeStream3, stream},
	}
}

// BenchmarkDecode decodes values from memory, one after the other.
func BenchmarkDecode(b *testing.B) {
	for _, v := range benchValues(b) {
		b.Run(v.name, func(b *testing.B) {
			d := NewDecoder(DecoderConfig{})
			b.SetBytes(int64(len(v.value)))
			b.ReportAllocs()
			for b.Loop() {
				d.ResetBytes(v.typ, v.value, Format{Version: versionStream4})
				if err := drain(d); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "values/s")
		})
	}
}

// BenchmarkSkim frames the same values as entries of a snapshot, which is what the source does.
func BenchmarkSkim(b *testing.B) {
	for _, v := range benchValues(b) {
		b.Run(v.name, func(b *testing.B) {
			const n = 10000
			one := append(AppendText([]byte{v.typ}, []byte("key")), v.value...)
			data := append([]byte("REDIS0013"), bytes.Repeat(one, n)...)
			data = append(data, 255, 0, 0, 0, 0, 0, 0, 0, 0)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(bytes.NewReader(data), Config{})
				for {
					if _, err := r.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "values/s")
		})
	}
}
