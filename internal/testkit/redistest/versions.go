package redistest

// Versions names every server that BinDir knows, for tests that hold for each of them: Redis from the oldest to the
// newest, then Valkey, then Redict. There is no Valkey 7.2 among them; Redict 7.3 stands in for it: both are Redis 7.2
// under another name.
func Versions() []string {
	return []string{
		"redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6",
		"valkey-8.0", "valkey-8.1", "valkey-9.1", "redict-7.3",
	}
}
