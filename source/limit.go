package source

import (
	"context"
	"net"
	"sync"
)

// hostLimit bounds how many full resynchronisations one host makes for us at a time: each is a fork there.
type hostLimit struct {
	n     int
	mu    sync.Mutex
	hosts map[string]chan struct{}
}

func newHostLimit(n int) *hostLimit { return &hostLimit{n: n, hosts: map[string]chan struct{}{}} }

// acquire waits for a place. release may be called more than once.
func (h *hostLimit) acquire(ctx context.Context, addr string) (release func(), err error) {
	places := h.places(addr)
	select {
	case places <- struct{}{}:
		return sync.OnceFunc(func() { <-places }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// try takes a place if one is free.
func (h *hostLimit) try(addr string) (release func(), ok bool) {
	places := h.places(addr)
	select {
	case places <- struct{}{}:
		return sync.OnceFunc(func() { <-places }), true
	default:
		return func() {}, false
	}
}

func (h *hostLimit) places(addr string) chan struct{} {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	places := h.hosts[host]
	if places == nil {
		places = make(chan struct{}, h.n)
		h.hosts[host] = places
	}
	return places
}
