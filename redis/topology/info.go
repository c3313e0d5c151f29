package topology

import (
	"slices"
	"strconv"
	"strings"
)

// Info is what a server says of itself: the fields of INFO by name, of however many sections.
type Info map[string]string

// ParseInfo reads the answer of INFO.
func ParseInfo(text string) Info {
	info := Info{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// Databases are the numbers of the databases that hold keys, ascending (section keyspace).
func (i Info) Databases() []int {
	var dbs []int
	for name := range i {
		number, ok := strings.CutPrefix(name, "db")
		if n, err := strconv.Atoi(number); ok && err == nil {
			dbs = append(dbs, n)
		}
	}
	slices.Sort(dbs)
	return dbs
}

// Server is the vendor, "redis" where none is named, and the version of its own (section server).
func (i Info) Server() (vendor, version string) {
	vendor, version = i["server_name"], i["redis_version"]
	if vendor == "" {
		vendor = "redis"
	}
	if own := i["valkey_version"]; own != "" {
		version = own
	}
	return vendor, version
}
