// Package kafka is the one place where the client's settings, the topics' settings and the embedded broker are decided.
//
// It knows nothing of Redis or of events. Everything that talks to Kafka builds its client from Config.Client, so that
// security, timeouts and memory limits hold everywhere alike. Nothing here starts a goroutine that outlives its call,
// but Embedded, which runs until Close.
package kafka
