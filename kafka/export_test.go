package kafka

// ReadCommittedFor is ReadCommitted with a patience of the test's.
var ReadCommittedFor = Config.readCommitted
