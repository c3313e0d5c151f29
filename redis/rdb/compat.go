package rdb

// The first Valkey version of the format; 12 to 79 are Redis's alone. Valkey refuses those ("foreign" versions, src/rdb.h of
// Valkey 9), and Redis everything above its own.
const (
	versionValkey  = 80
	versionForeign = 12
)

// MinVersion is the least version of the format that knows a type of value: what a payload of it may carry in its footer.
// RESTORE refuses a footer above the server's own version, and looks at nothing else of it: the type byte decides what is
// read (verifyDumpPayload and rdbLoadObject, src/cluster.c and src/rdb.c). So a payload that says no more than it needs is
// loaded by every server that knows its type, whoever wrote it.
//
// For a type that only the source's own version is known to have it is that version.
func MinVersion(typ byte, f Format) int {
	switch typ {
	case typeString, typeList, typeSet, typeZset, typeHash,
		typeHashZipmap, typeListZiplist, typeSetIntset, typeZsetZiplist, typeHashZiplist:
		return 6 // Redis 2.6, which brought RESTORE
	case typeListQuick:
		return 7 // 3.2
	case typeZset2, typeModule2:
		return 8 // 4.0
	case typeStream:
		return 9 // 5.0
	case typeHashListpack, typeZsetListpack, typeListQuick2, typeStream2:
		return 10 // 7.0
	case typeSetListpack, typeStream3:
		return 11 // 7.2
	case typeHashTTLPre, typeHashLPEXPre:
		if f.Valkey {
			if typ == typeHashTTLValkey {
				return versionValkey // 9.0
			}
			return f.Version
		}
		return versionHashTTL // which 7.4 still loads
	case typeHashTTL, typeHashListpackEX:
		return versionHashTTL // 7.4
	case typeStream4:
		return versionStream4 // 8.6
	}
	return f.Version
}

// Loads tells whether a server whose own payloads have the target's format loads a value of that type.
func (target Format) Loads(typ byte, f Format) bool {
	v := MinVersion(typ, f)
	if v < versionForeign {
		return v <= target.Version
	}
	return v <= target.Version && target.Valkey == (v >= versionValkey)
}

// HasFieldExpiry tells whether a server of that format knows expiry times of hash fields.
func (target Format) HasFieldExpiry() bool { return target.Version >= versionHashTTL }

// HasTimedFields tells whether a type is that of a hash some of whose fields expire.
func HasTimedFields(typ byte, f Format) bool {
	switch typ {
	case typeHashTTLPre: // and typeHashTTLValkey
		return true
	case typeHashLPEXPre, typeHashTTL, typeHashListpackEX:
		return !f.Valkey
	}
	return false
}

// HasProducers tells whether a server of that format keeps what the producers of a stream have sent (Redis 8.6).
func (target Format) HasProducers() bool { return !target.Valkey && target.Version >= versionStream4 }

// ModuleOf is the id of a module's value, see [ModuleName].
func ModuleOf(value []byte) (uint64, error) {
	if len(value) == 0 {
		return 0, &FormatError{What: "module value is empty"}
	}
	var d Decoder
	d.in.resetBytes(value)
	return d.in.readLen()
}
