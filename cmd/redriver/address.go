package main

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redriver/redriver/connectors"
	"github.com/redriver/redriver/redis/topology"
)

// redisAddress reads redis://[user[:password]@]host:port[,host:port...], and rediss:// with what TLS needs behind a
// question mark, into keys of a connector. Its errors never repeat a password.
func (a *app) redisAddress(flag, text, passwordVar string) (map[string]string, error) {
	out := map[string]string{}
	rest, ok := strings.CutPrefix(text, "redis://")
	if !ok {
		if rest, ok = strings.CutPrefix(text, "rediss://"); !ok {
			return nil, fmt.Errorf("%s: want redis://[user[:password]@]host:port, or rediss:// for TLS", flag)
		}
		out["redis.tls"] = "true"
		var err error
		if rest, err = tlsQuery(flag, rest, out); err != nil {
			return nil, err
		}
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, password, _ := strings.Cut(rest[:i], ":")
		rest = rest[i+1:]
		for key, escaped := range map[string]string{"redis.username": user, "redis.password": password} {
			value, err := url.PathUnescape(escaped)
			if err != nil {
				return nil, fmt.Errorf("%s: %s holds a %% that begins no escape: write %%25 for it", flag, key)
			}
			if value != "" {
				out[key] = value
			}
		}
	}
	if v := a.getenv(passwordVar); v != "" {
		out["redis.password"] = "${env:" + passwordVar + "}"
	}
	rest, path, _ := strings.Cut(rest, "/")
	if path != "" && path != "0" {
		return nil, fmt.Errorf("%s: a cluster has database 0 only, leave out /%s", flag, path)
	}
	var addrs []string
	for addr := range strings.SplitSeq(rest, ",") {
		if addr != "" && (strings.HasSuffix(addr, "]") || !strings.Contains(addr, ":")) {
			addr += ":6379"
		}
		addrs = append(addrs, addr)
	}
	out["redis.address"] = strings.Join(addrs, ",")
	return out, nil
}

// tlsParams are what may stand behind the question mark of a rediss:// address, and the keys they are.
var tlsParams = map[string]string{
	"ca": "redis.tls.ca.file", "cert": "redis.tls.cert.file", "key": "redis.tls.key.file",
	"server_name": "redis.tls.server.name", "verify": "redis.tls.verify",
}

// tlsQuery takes the part behind the question mark off an address.
func tlsQuery(flag, text string, out map[string]string) (rest string, err error) {
	rest, query, _ := strings.Cut(text, "?")
	if strings.Contains(query, "@") {
		return "", fmt.Errorf("%s: a question mark in a password is written %%3F", flag)
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("%s: what stands behind the question mark is not name=value&name=value", flag)
	}
	for name, values := range params {
		key, ok := tlsParams[name]
		if !ok {
			return "", fmt.Errorf("%s: %q: want %s", flag, name, strings.Join(slices.Sorted(maps.Keys(tlsParams)), ", "))
		}
		out[key] = values[len(values)-1]
		if strings.HasSuffix(key, ".file") {
			if out[key], err = filepath.Abs(out[key]); err != nil {
				return "", fmt.Errorf("%s: %s: %w", flag, name, err)
			}
		}
	}
	return rest, nil
}

// dialer reaches what an address names, for commands that have no configuration. A password in the variable goes before
// one in the address.
func (a *app) dialer(flag string, address map[string]string, passwordVar string) (*topology.Dialer, error) {
	tls, err := connectors.TLSOptions{
		On: address["redis.tls"] == "true", CAFile: address["redis.tls.ca.file"], CertFile: address["redis.tls.cert.file"],
		KeyFile: address["redis.tls.key.file"], ServerName: address["redis.tls.server.name"], Unverified: address["redis.tls.verify"] == "none",
	}.Config()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	d := &topology.Dialer{Username: address["redis.username"], Password: address["redis.password"], TLS: tls}
	if v := a.getenv(passwordVar); v != "" {
		d.Password = v
	}
	return d, nil
}
