package resp

import (
	"bytes"
	"strings"
	"testing"
)

func benchCommand(size int) []byte {
	return AppendCommand(nil, "SET", "user:000000012345", strings.Repeat("v", size))
}

func BenchmarkParseCommand(b *testing.B) {
	buf := benchCommand(100)
	args := make([][]byte, 0, 8)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		_, args, _ = ParseCommand(buf, args[:0])
	}
}

func BenchmarkReadCommand(b *testing.B) {
	for name, size := range map[string]int{"100B": 100, "10KiB": 10 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			buf := benchCommand(size)
			r := NewReader(&loop{data: bytes.Repeat(buf, 1+(1<<20)/len(buf))}, Config{})
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.ReadCommand(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadReply(b *testing.B) {
	for name, one := range map[string]string{"OK": "+OK\r\n", "Exec": "*4\r\n+OK\r\n:1\r\n$3\r\nabc\r\n+OK\r\n"} {
		b.Run(name, func(b *testing.B) {
			r := NewReplyReader(&loop{data: bytes.Repeat([]byte(one), 10000)}, Config{})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendCommand(b *testing.B) {
	value := []byte(strings.Repeat("v", 100))
	set, key := []byte("SET"), []byte("user:000000012345")
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendCommandBytes(dst[:0], set, key, value)
	}
}
