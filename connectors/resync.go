package connectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/redriver/redriver/source"
)

// Resync asks the named sources of the configuration, all of them if none is named, to take a new snapshot of every shard. It
// returns how many shards it has asked.
func Resync(ctx context.Context, cfg *Config, log *slog.Logger, names ...string) (int, error) {
	asked, met := 0, 0
	var errs []error
	for _, name := range names {
		if !slices.ContainsFunc(cfg.Connectors, func(c Connector) bool { return c.Name == name && c.Kind == KindSource }) {
			errs = append(errs, &CheckError{Code: CodeConfig, What: "ask for a snapshot", Err: fmt.Errorf("the configuration has no source %s", quote(name))})
		}
	}
	if errs != nil {
		return 0, errors.Join(errs...)
	}
	for i := range cfg.Connectors {
		c := &cfg.Connectors[i]
		if c.Kind != KindSource || len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		met++
		s, err := source.New(cfg.sourceConfig(c), log)
		if err != nil {
			return asked, err
		}
		n, err := s.Resync(ctx)
		asked += n
		if err != nil {
			return asked, fmt.Errorf("source %s: %w", c.Name, err)
		}
	}
	if met == 0 {
		return 0, &CheckError{Code: CodeConfig, What: "ask for a snapshot", Err: errors.New("the configuration has no source")}
	}
	return asked, nil
}
