package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/redriver/redriver/redis/rdb"
	"github.com/redriver/redriver/redis/resp"
)

func push(e *engine, a [][]byte) ([]byte, bool, error) {
	v, err := e.at(string(a[1]), rdb.ValueList, true)
	if err != nil {
		return nil, false, err
	}
	for _, item := range a[2:] {
		if isWord(a[0], "LPUSH") {
			v.list = slices.Insert(v.list, 0, slices.Clone(item))
		} else {
			v.list = append(v.list, slices.Clone(item))
		}
	}
	return resp.AppendInt(nil, int64(len(v.list))), true, nil
}

func pop(e *engine, a [][]byte) ([]byte, bool, error) {
	v, err := e.at(string(a[1]), rdb.ValueList, false)
	if err != nil || v == nil {
		return resp.AppendNull(nil), false, err
	}
	defer e.tidy(string(a[1]))
	at := 0
	if isWord(a[0], "RPOP") {
		at = len(v.list) - 1
	}
	item := v.list[at]
	v.list = slices.Delete(v.list, at, at+1)
	return resp.AppendBulk(nil, item), true, nil
}

func hset(e *engine, a [][]byte) ([]byte, bool, error) {
	if len(a)%2 != 0 {
		return nil, false, errSyntax
	}
	v, err := e.at(string(a[1]), rdb.ValueHash, true)
	if err != nil {
		return nil, false, err
	}
	before := len(v.hash)
	for i := 2; i < len(a); i += 2 {
		v.hash[string(a[i])] = string(a[i+1])
	}
	return resp.AppendInt(nil, int64(len(v.hash)-before)), true, nil
}

func hincrby(e *engine, a [][]byte) ([]byte, bool, error) {
	by, err := parseInt(a[3])
	if err != nil {
		return nil, false, err
	}
	v, err := e.at(string(a[1]), rdb.ValueHash, true)
	if err != nil {
		return nil, false, err
	}
	defer e.tidy(string(a[1]))
	n := int64(0)
	if s, ok := v.hash[string(a[2])]; ok {
		if n, err = parseInt([]byte(s)); err != nil {
			return nil, false, fmt.Errorf("ERR hash value is not an integer")
		}
	}
	v.hash[string(a[2])] = strconv.FormatInt(n+by, 10)
	return resp.AppendInt(nil, n+by), true, nil
}

func score(b []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) {
		return 0, fmt.Errorf("ERR value is not a valid float")
	}
	return f, nil
}

func zadd(e *engine, a [][]byte) ([]byte, bool, error) {
	if len(a)%2 != 0 {
		return nil, false, errSyntax
	}
	v, err := e.at(string(a[1]), rdb.ValueZset, true)
	if err != nil {
		return nil, false, err
	}
	defer e.tidy(string(a[1]))
	before := len(v.zset)
	for i := 2; i < len(a); i += 2 {
		f, err := score(a[i])
		if err != nil {
			return nil, false, err
		}
		v.zset[string(a[i+1])] = f
	}
	return resp.AppendInt(nil, int64(len(v.zset)-before)), true, nil
}

func zincrby(e *engine, a [][]byte) ([]byte, bool, error) {
	by, err := score(a[2])
	if err != nil {
		return nil, false, err
	}
	v, err := e.at(string(a[1]), rdb.ValueZset, true)
	if err != nil {
		return nil, false, err
	}
	v.zset[string(a[3])] += by
	return resp.AppendBulkString(nil, strconv.FormatFloat(v.zset[string(a[3])], 'g', -1, 64)), true, nil
}
