// Package proxy stands between Kafka's clients and one broker, and does to their connections what a bad network does, at
// moments that a test chooses: cut before a request arrives, cut when the broker has carried it out and its answer is
// still to come, held for a while, or cut off altogether.
//
// It reads the frames' lengths, the requests' API keys and the correlation ids, and passes everything else on as it is.
// The broker has to announce the proxy's address (advertised.listeners), or clients go around it. It knows nothing of
// package testing.
//
// A Wire knows no frames: it stands before any server, and is slow, cut, or held as if the other side had gone without a word.
package proxy
