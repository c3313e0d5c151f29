package main

import (
	"errors"
	"fmt"
)

// databaseMap is what sync tells its sink of databases: the map given, or the one pair that the addresses name (-1 for
// none, which is 0 beside one that is named), and then nothing else is carried.
func databaseMap(given string, from, to int) (text, unmapped string, err error) {
	switch {
	case from < 0 && to < 0:
		return given, "stop", nil
	case given != "all":
		return "", "", errors.New("--databases: the addresses name a database too, give one of both")
	}
	return fmt.Sprintf("%d:%d", max(from, 0), max(to, 0)), "skip", nil
}
