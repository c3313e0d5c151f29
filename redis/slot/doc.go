// Package slot holds hash slots: which slot a key lies in, sets of slots,
// one short tag per slot, and which partition of a topic a slot belongs to.
//
// It knows the arithmetic only. Who owns a slot at the moment is the business
// of whoever asks a cluster, and nothing here does I/O. Slots are used for
// sources that are not clusters too: the function from key to slot needs no
// cluster behind it.
//
// Two things here are part of formats that outlive a process, and never change:
// [Tag], because names of keys at a target are made of it, and [Partition],
// because it decides where in a topic an event lies. Tests pin both.
//
// All functions may be called from any goroutine. A [Set] is a plain value
// without a lock of its own. Iteration is always in ascending order of slots.
package slot
