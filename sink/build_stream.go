package sink

import (
	"strconv"

	"github.com/redriver/redriver/redis/rdb"
)

// streamBuilder is what of a stream has to be kept while it is built.
//
// Not everything has a command. When a consumer was last seen becomes when it was built. A pending entry whose entry was
// deleted is not kept by servers from 7.0 on: they drop it themselves as soon as somebody asks for it.
type streamBuilder struct {
	entries bool
	meta    rdb.StreamMeta
	made    bool // there is a key: an entry or a group made it

	// The open XCLAIM: pending entries of one consumer with the same time and count.
	group, consumer []byte
	atMs            int64
	times           uint64
	ids             [][]byte
}

// claimIDs is how many entries one XCLAIM names.
const claimIDs = 100

func (b *builder) addStream(el *rdb.Element) {
	s := &b.stream
	if el.Kind != rdb.ElementPending {
		b.closeClaim()
	}
	switch el.Kind {
	case rdb.ElementEntry:
		args := make([][]byte, 0, 2+len(el.Fields))
		b.command("XADD", append(append(args, b.stage, el.ID.Append(nil)), el.Fields...)...)
		s.entries, s.made, b.any = true, true, true
	case rdb.ElementMeta:
		s.meta = el.Meta
		b.addMeta()
	case rdb.ElementGroup:
		args := [][]byte{[]byte("CREATE"), b.stage, el.Group, el.ID.Append(nil)}
		if !s.made {
			args = append(args, []byte("MKSTREAM"))
		}
		if b.hasCounts() && s.meta.Known {
			args = append(args, []byte("ENTRIESREAD"), strconv.AppendInt(nil, el.EntriesRead, 10))
		}
		b.command("XGROUP", args...)
		s.made, b.any = true, true
	case rdb.ElementConsumer:
		if b.hasCounts() {
			b.command("XGROUP", []byte("CREATECONSUMER"), b.stage, el.Group, el.Consumer)
			break
		}
		// Older servers make a consumer when it reads, and reading what it has pending already changes nothing else.
		b.command("XREADGROUP", []byte("GROUP"), el.Group, el.Consumer, []byte("COUNT"), []byte("1"), []byte("STREAMS"), b.stage, []byte("0"))
	case rdb.ElementPending:
		b.addPending(el)
	case rdb.ElementProducers:
		if b.v.target.format.HasProducers() {
			b.command("XCFGSET", b.stage, []byte("IDMP-DURATION"), strconv.AppendUint(nil, el.Producers.DurationSec, 10),
				[]byte("IDMP-MAXSIZE"), strconv.AppendUint(nil, el.Producers.MaxMessages, 10))
		}
	default: // messages of producers, see lacksRebuilt
	}
}

// countsVersion is from when on streams count what was ever added and read (Redis 7.0).
const countsVersion = 10

func (b *builder) hasCounts() bool { return b.v.target.format.Version >= countsVersion }

// addMeta sets what a stream knows about itself. An empty one comes to be by losing its only entry; one that never had any
// is made with its first group.
func (b *builder) addMeta() {
	s := &b.stream
	m := &s.meta
	none := rdb.StreamID{}
	if !s.entries && m.LastID != none {
		b.command("XADD", b.stage, []byte("MAXLEN"), []byte("0"), m.LastID.Append(nil), []byte("f"), []byte("v"))
		s.made, b.any = true, true
	}
	if !s.made {
		return
	}
	args := [][]byte{b.stage, m.LastID.Append(nil)}
	if m.Known && b.hasCounts() {
		args = append(args, []byte("ENTRIESADDED"), strconv.AppendUint(nil, m.EntriesAdded, 10), []byte("MAXDELETEDID"), m.MaxDeletedID.Append(nil))
	}
	b.command("XSETID", args...)
}

func (b *builder) addPending(el *rdb.Element) {
	s := &b.stream
	same := string(s.group) == string(el.Group) && string(s.consumer) == string(el.Consumer) && s.atMs == el.DeliveredAtMs && s.times == el.DeliveryCount
	if !same || len(s.ids) >= claimIDs {
		b.closeClaim()
		s.group, s.consumer = append(s.group[:0], el.Group...), append(s.consumer[:0], el.Consumer...)
		s.atMs, s.times = el.DeliveredAtMs, el.DeliveryCount
	}
	s.ids = append(s.ids, el.ID.Append(nil))
}

// closeClaim gives a consumer the pending entries gathered for it.
func (b *builder) closeClaim() {
	s := &b.stream
	if len(s.ids) == 0 {
		return
	}
	args := append([][]byte{b.stage, s.group, s.consumer, []byte("0")}, s.ids...)
	args = append(args, []byte("TIME"), strconv.AppendInt(nil, s.atMs, 10), []byte("RETRYCOUNT"), strconv.AppendUint(nil, s.times, 10),
		[]byte("FORCE"), []byte("JUSTID"))
	s.ids = nil
	b.command("XCLAIM", args...)
}
