package sink

import (
	"bytes"
	"context"

	"github.com/redriver/redriver/redis/own"
	"github.com/redriver/redriver/redis/slot"
)

// checkExisting refuses keys that are not ours in the slots of a partition that was never written.
func (w *worker) checkExisting(ctx context.Context) error {
	if w.s.cfg.ExistingKeys != ExistingRefuse {
		return nil
	}
	found, err := w.hasAny(own.Watermark)
	if err == nil && !found {
		found, err = w.wasFilled(ctx) // decideStart has more to say then
	}
	if err != nil || found {
		return err
	}
	return w.countForeign()
}

func (w *worker) hasAny(kind byte) (found bool, err error) {
	err = w.readKind(kind, func(slot.Slot, string) error {
		found = true
		return nil
	})
	return found, err
}

// countForeign returns an error if any key in our slots is not of our own shape.
func (w *worker) countForeign() error {
	if w.shape.single {
		return w.foreignSingle()
	}
	keys := int64(0)
	var example []byte
	slots := make([]slot.Slot, len(w.owner))
	for i := range slots {
		slots[i] = w.slots.First + slot.Slot(i)
	}
	if err := w.listSlots(slots, func(_ slot.Slot, key []byte) error {
		if !own.Is(key) {
			keys++
			example = bytes.Clone(key)
		}
		return nil
	}); err != nil {
		return err
	}
	if keys > 0 {
		return &ExistingKeysError{Keys: keys, Key: example}
	}
	return nil
}
