package connectors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/redriver/redriver/codec"
	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/kafka"
	"github.com/redriver/redriver/offsets"
	"github.com/redriver/redriver/redis/resp"
	"github.com/redriver/redriver/redis/topology"
	"github.com/redriver/redriver/sink"
	"github.com/redriver/redriver/source"
)

func TestCodeOf(t *testing.T) {
	at := func(cause error) error { return &topology.Error{Addr: "h:1", Op: "dial", Err: cause} }
	for _, c := range []struct {
		err  error
		want connectors.Code
	}{
		{nil, connectors.CodeOK},
		{errors.New("something"), connectors.CodeOther},
		{context.DeadlineExceeded, connectors.CodeOther},
		{&connectors.ConfigError{Faults: []connectors.Fault{{What: "x"}}}, connectors.CodeConfig},
		{at(topology.ErrUnreachable), connectors.CodeRedisUnreachable},
		{at(topology.ErrAuth), connectors.CodeRedisRefuses},
		{at(topology.ErrPermission), connectors.CodeRedisRefuses},
		{errors.Join(at(topology.ErrUnreachable), at(topology.ErrAuth)), connectors.CodeRedisRefuses},
		{&source.ServerError{Addr: "h:1", Asked: "PSYNC", Answer: "NOPERM no"}, connectors.CodeRedisRefuses},
		{fmt.Errorf("prepare: %w", &resp.ServerError{Text: "NOPERM no"}), connectors.CodeRedisRefuses},
		{&source.ServerError{Addr: "h:1", Asked: "PSYNC", Answer: "ERR no"}, connectors.CodeOther},
		{at(topology.ErrNotCluster), connectors.CodeTopology},
		{at(topology.ErrUnusable), connectors.CodeTopology},
		{&connectors.CheckError{Code: connectors.CodeKafka, What: "x"}, connectors.CodeKafka},
		{kerr.TopicAuthorizationFailed, connectors.CodeKafka},
		{&kafka.MismatchError{}, connectors.CodeTopic},
		{&sink.ExistingKeysError{}, connectors.CodeTarget},
		{&sink.EvictionError{}, connectors.CodeTarget},
		{&sink.StartError{}, connectors.CodeTarget},
		{&sink.LostError{}, connectors.CodeLogLost},
		{&sink.RefusedError{}, connectors.CodeData},
		{&sink.RecordError{Err: codec.ErrVersion}, connectors.CodeData},
		{&sink.SweepError{}, connectors.CodeData},
		{codec.ErrMalformed, connectors.CodeData},
		{offsets.ErrForeign, connectors.CodeData},
		{&connectors.DifferentError{}, connectors.CodeDifferent},
	} {
		if got := connectors.CodeOf(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if c.err == nil {
			continue
		}
		if got := connectors.CodeOf(fmt.Errorf("source a: %w", c.err)); got != c.want {
			t.Errorf("wrapped %v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestCodesHaveMeanings(t *testing.T) {
	seen := map[string]bool{}
	for i, c := range connectors.Codes {
		if int(c) != i || c.Meaning() == "" || seen[c.Meaning()] {
			t.Errorf("code %d at %d: %q", c, i, c.Meaning())
		}
		seen[c.Meaning()] = true
	}
}
