package rdb

import (
	"bytes"
	"math"
)

// Estimate is what the first bytes of a collection tell about all of it.
type Estimate struct {
	// Bytes is about how long the value is, or what its elements hold if that is more, as where they are compressed: as if all
	// its parts were like those that are whole there. Of a stream that is without its groups.
	Bytes int64
	// Parts is how many it says it has: members or fields, or nodes of a list or stream that hold several elements each.
	Parts int64
}

// estimateParts are enough to judge the others by.
const estimateParts = 1000

// EstimateOf judges a collection by the first bytes of its value. known is false for a string, if none of the parts is whole
// there, and if the bytes are none that [Decoder] knows.
func EstimateOf(typ byte, front []byte, f Format) (e Estimate, known bool) {
	d := NewDecoder(DecoderConfig{})
	d.Reset(typ, bytes.NewReader(front), f)
	if d.Kind() == ValueString {
		return e, false
	}
	var all, done uint64
	content := 0
	for done < estimateParts {
		el, err := d.Next()
		if err != nil {
			break
		}
		content += len(el.Field) + len(el.Value)
		for _, f := range el.Fields {
			content += len(f)
		}
		if all == 0 {
			all = d.left + 1 // the first one is taken
		}
		if done, e.Bytes = all-d.left, d.in.offset(); d.left == 0 {
			break
		}
	}
	if done == 0 {
		return e, false
	}
	const most = math.MaxInt64 / 2
	e.Bytes = int64(min(float64(max(e.Bytes, int64(content)))/float64(done)*float64(all), most))
	e.Parts = int64(min(all, most))
	return e, true
}
