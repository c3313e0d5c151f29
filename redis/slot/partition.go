package slot

// Partition returns the partition of slot s in a topic of that many partitions:
// s*partitions/Count, so that neighbouring slots share a partition and every
// partition holds the same number of slots, give or take one.
//
// With more than Count partitions some would have no slot at all: whoever
// creates or opens a topic refuses that.
func Partition(s Slot, partitions int) int32 {
	return int32(int64(s) * int64(partitions) / Count)
}

// PartitionRange returns the slots of partition p, the inverse of [Partition].
// The range is empty for a partition that has no slots (only with more than
// Count partitions) and for one that does not exist.
func PartitionRange(p int32, partitions int) Range {
	if p < 0 || int64(p) >= int64(partitions) {
		return Range{First: 1, Last: 0}
	}
	first := firstOf(int64(p), int64(partitions))
	end := firstOf(int64(p)+1, int64(partitions))
	if first >= end {
		return Range{First: 1, Last: 0}
	}
	return Range{First: Slot(first), Last: Slot(end - 1)}
}

// firstOf is the least s with s*partitions/Count >= p.
func firstOf(p, partitions int64) int64 {
	return (p*Count + partitions - 1) / partitions
}
