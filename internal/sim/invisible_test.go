//go:build !synctests

package sim

const visible = false
