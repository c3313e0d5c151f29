//go:build synctests

package sim

// visible: the mutexes of franz-go are such that a bubble sees who waits for one.
const visible = true
