package slot

import "sync"

// Tag returns the slot's own hash tag: a string of one to four characters of
// [a-z0-9] such that a key with "{" + Tag(s) + "}" as its first braces lies in
// slot s. Keys that must lie in a given slot take their tag from here, never from
// the braces of a user's key, which may hold anything.
//
// The table is part of the format: it is the same in every process and version.
// For a number that is no slot the tag is empty.
func Tag(s Slot) string {
	if s >= Count {
		return ""
	}
	return tags()[s]
}

const tagAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

// tags takes for each slot the first candidate that hashes to it: shorter before
// longer, then in the order of tagAlphabet, the last character fastest. Three
// characters leave some slots out, with four every slot has its tag.
var tags = sync.OnceValue(func() *[Count]string {
	var table [Count]string
	missing := Count
	for length := 1; length <= 4; length++ {
		digits := make([]int, length)
		tag := make([]byte, length)
		for missing > 0 {
			for i, d := range digits {
				tag[i] = tagAlphabet[d]
			}
			if s := crc16(tag) % Count; table[s] == "" {
				table[s] = string(tag)
				missing--
			}
			if !increment(digits) {
				break
			}
		}
	}
	return &table
})

// increment counts up in base len(tagAlphabet); false after the highest number.
func increment(digits []int) bool {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i]++; digits[i] < len(tagAlphabet) {
			return true
		}
		digits[i] = 0
	}
	return false
}
