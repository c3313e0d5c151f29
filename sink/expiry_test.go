package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redriver/redriver/redis/resp"
)

func TestExpiryTimesAreHeldAndConditionsLeftOut(t *testing.T) {
	const hold = 1_000_000
	for from, want := range map[string]string{
		"PEXPIREAT k 500":                      "PEXPIREAT k 1000500",
		"pexpireat k 500 GT":                   "pexpireat k 1000500",
		"EXPIREAT k 2 XX":                      "PEXPIREAT k 1002000",
		"PEXPIRE k 70":                         "PEXPIRE k 1000070",
		"EXPIRE k 70 NX":                       "PEXPIRE k 1070000",
		"SET k v PXAT 500":                     "SET k v PXAT 1000500",
		"SET k v KEEPTTL":                      "",
		"SET k PXAT":                           "",
		"SET k v NX EX 3 GET":                  "SET k v NX PX 1003000 GET",
		"SETEX k 3 v":                          "PSETEX k 1003000 v",
		"PSETEX k 3 v":                         "PSETEX k 1000003 v",
		"GETEX k EXAT 4":                       "GETEX k PXAT 1004000",
		"GETEX k PERSIST":                      "",
		"RESTORE k 500 payload REPLACE ABSTTL": "RESTORE k 1000500 payload REPLACE ABSTTL",
		"RESTORE k 0 payload REPLACE":          "",
		"HPEXPIREAT h 500 GT FIELDS 2 a PX":    "HPEXPIREAT h 1000500 FIELDS 2 a PX",
		"HEXPIRE h 5 FIELDS 1 a":               "HPEXPIRE h 1005000 FIELDS 1 a",
		"HSETEX h FNX PXAT 7 FIELDS 1 f v":     "HSETEX h FNX PXAT 1000007 FIELDS 1 f v",
		"HSETEX h FIELDS 1 EX 5":               "",
		"HPEXPIREAT h 500 FIELDS 1 f NX":       "HPEXPIREAT h 1000500 FIELDS 1 f",
		"HSETEX h FIELDS 1 f v PXAT 7":         "HSETEX h PXAT 1000007 FIELDS 1 f v",
		"HSETEX h FIELDS 1 PX 5 FXX PXAT 7":    "HSETEX h FXX PXAT 1000007 FIELDS 1 PX 5",
		"HGETEX h FIELDS 2 f PX EXAT 7":        "HGETEX h PXAT 1007000 FIELDS 2 f PX",
		"HGETEX h FIELDS 9 f PX 7":             "",
		"PEXPIREAT k 9223372036854775807":      "",
		"PEXPIREAT k soon":                     "",
		"PERSIST k":                            "",
		"MSETEX 2 a EX 123 x PXAT 7":           "MSETEX 2 a EX 123 x PXAT 1000007",
		"HSET k EX 5":                          "",
		"APPEND k PX":                          "",
		"GETEX k":                              "",
		"HPEXPIREAT h 500 GT":                  "",
	} {
		var args [][]byte
		for w := range strings.FieldsSeq(from) {
			args = append(args, []byte(w))
		}
		got, changed := holdExpiry(nil, args, hold)
		var wire string
		if want != "" {
			wire = string(resp.AppendCommand(nil, strings.Fields(want)...))
		}
		if string(got) != wire || changed != (want != "") {
			t.Errorf("%s: %q, %v; want %q", from, got, changed, want)
		}
		if got, changed := holdExpiry(nil, args, 0); changed || len(got) > 0 {
			t.Errorf("%s: changed without a hold", from)
		}
	}
}

func TestHeldCommandsOfAUnitKeepTheirPlace(t *testing.T) {
	u := &unit{blind: true, commands: resp.AppendCommand(resp.AppendCommand(resp.AppendCommand(nil, "HSET", "k", "f", "1"), "PEXPIREAT", "k", "500"), "HDEL", "k", "g")}
	var scratch scratch
	if err := u.inspect(3, 1000, nil, &scratch); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s%s%s", resp.AppendCommand(nil, "HSET", "k", "f", "1"), resp.AppendCommand(nil, "PEXPIREAT", "k", "1500"), resp.AppendCommand(nil, "HDEL", "k", "g"))
	if string(u.commands) != want || u.count != 3 || u.blind {
		t.Fatalf("%q, %d commands, blind %v", u.commands, u.count, u.blind)
	}
}
