package sink

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/slot"
)

// BenchmarkReplay replays a log that is there, one write per operation, with broker, target and sink on one machine.
func BenchmarkReplay(b *testing.B) {
	for _, c := range []struct {
		name string
		args func(i int) []string
	}{
		{"SET", func(i int) []string { return []string{"SET", fmt.Sprint("key:", i%100_000), strings.Repeat("v", 100)} }},
		{"INCR", func(i int) []string { return []string{"INCR", fmt.Sprint("key:", i%100_000)} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, 3, 0)
			l := newLane(b, r.kafka, r.prefix, 1, r.partitions, slot.Range{First: 0, Last: everything}, nil)
			l.commit(func() {
				l.begin()
				l.end()
			})
			for i := 0; i < b.N; {
				l.commit(func() {
					for range min(10_000, b.N-i) {
						args := c.args(i)
						l.write(args[1], resp.AppendCommand(nil, args...), 1)
						i++
					}
				})
			}
			b.ResetTimer()
			s := r.start(r.config())
			for s.Status().Units < int64(b.N) {
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			s.stop()
		})
	}
}
