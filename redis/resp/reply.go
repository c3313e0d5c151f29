package resp

// Kinds of replies.
const (
	KindSimple = '+'
	KindError  = '-'
	KindInt    = ':'
	KindBulk   = '$'
	KindArray  = '*'
)

// Reply is one answer of a server, or an element of one.
type Reply struct {
	Kind  byte    // one of the Kind constants
	Str   []byte  // of a simple, error or bulk reply; nil for a null
	Int   int64   // of an integer reply
	Elems []Reply // of an array; nil for a null
}

// IsNull reports whether the reply is a null bulk string or a null array.
func (r Reply) IsNull() bool {
	return r.Kind == KindBulk && r.Str == nil || r.Kind == KindArray && r.Elems == nil
}

// Err returns an error reply as a [*ServerError], which stays valid, and nil for
// other replies. It does not look into arrays.
func (r Reply) Err() error {
	if r.Kind != KindError {
		return nil
	}
	return newServerError(r.Str)
}
