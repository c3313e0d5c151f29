package resp

import "strconv"

// AppendCommand appends a command with these arguments.
func AppendCommand(dst []byte, args ...string) []byte {
	dst = AppendArrayHeader(dst, len(args))
	for _, arg := range args {
		dst = AppendBulkString(dst, arg)
	}
	return dst
}

// AppendCommandBytes appends a command with these arguments.
func AppendCommandBytes(dst []byte, args ...[]byte) []byte {
	dst = AppendArrayHeader(dst, len(args))
	for _, arg := range args {
		dst = AppendBulk(dst, arg)
	}
	return dst
}

// AppendArrayHeader appends the head of an array, or command, of n elements; -1 is
// the null array.
func AppendArrayHeader(dst []byte, n int) []byte { return appendHeader(dst, '*', int64(n)) }

// AppendBulk appends a bulk string.
func AppendBulk(dst, b []byte) []byte {
	dst = appendHeader(dst, '$', int64(len(b)))
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString appends a bulk string.
func AppendBulkString(dst []byte, s string) []byte {
	dst = appendHeader(dst, '$', int64(len(s)))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendBulkInt appends a number as a bulk string, which is how a command carries it.
func AppendBulkInt(dst []byte, n int64) []byte {
	var digits [20]byte
	return AppendBulk(dst, strconv.AppendInt(digits[:0], n, 10))
}

// AppendInt appends an integer reply. In a command a number is a bulk string: see
// [AppendBulkInt].
func AppendInt(dst []byte, n int64) []byte { return appendHeader(dst, ':', n) }

// AppendNull appends the null bulk string.
func AppendNull(dst []byte) []byte { return append(dst, "$-1\r\n"...) }

// AppendSimple appends a status reply; the line must not hold \r or \n.
func AppendSimple(dst []byte, line string) []byte { return appendLine(dst, '+', line) }

// AppendError appends an error reply; the line must not hold \r or \n.
func AppendError(dst []byte, line string) []byte { return appendLine(dst, '-', line) }

func appendLine(dst []byte, kind byte, line string) []byte {
	dst = append(dst, kind)
	dst = append(dst, line...)
	return append(dst, '\r', '\n')
}

func appendHeader(dst []byte, kind byte, n int64) []byte {
	if 0 <= n && n < 10 { // most arguments counts and many lengths
		return append(dst, kind, '0'+byte(n), '\r', '\n')
	}
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, '\r', '\n')
}
