package source

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/redriver/redriver/redis/resp"
)

// scripts are those that the shard has loaded. A master before Redis 7 that is told to (lua-replicate-commands no) sends
// scripts in place of what they did, and once its replicas know one, its EVALSHA alone. A target may have forgotten it, and
// a reader of the log never knew it: so EVALSHA travels as the EVAL it stands for. All other masters send effects, and then
// nothing here is asked for.
//
// Invariant: bounded by what the master itself holds, which forgets none but by SCRIPT FLUSH.
type scripts struct {
	bodies map[string][]byte // by SHA-1, hexadecimal
	// whole: a snapshot was read, which names all scripts, and the stream has been followed since, without a step back.
	whole bool
}

// begin takes a snapshot's scripts from here on.
func (s *scripts) begin() { s.bodies, s.whole = nil, true }

func (s *scripts) learn(body []byte) {
	sum := sha1.Sum(body)
	name := hex.EncodeToString(sum[:])
	if _, ok := s.bodies[name]; ok {
		return
	}
	if s.bodies == nil {
		s.bodies = map[string][]byte{}
	}
	s.bodies[name] = bytes.Clone(body)
}

// script follows a SCRIPT command of the stream.
func (s *scripts) script(args [][]byte) {
	switch {
	case s == nil:
	case len(args) == 3 && resp.IsWord(args[1], "LOAD"):
		s.learn(args[2])
	case len(args) > 1 && resp.IsWord(args[1], "FLUSH"):
		s.bodies = nil
	}
}

// resolve learns from an EVAL, and makes one of an EVALSHA. A script that is not known asks for a snapshot, once.
func (s *scripts) resolve(args [][]byte) (resolved [][]byte, changed bool, err error) {
	switch {
	case s == nil || len(args) < 2:
	case resp.IsWord(args[0], "EVAL"):
		s.learn(args[1])
	case resp.IsWord(args[0], "EVALSHA"):
		if body, ok := s.bodies[string(bytes.ToLower(args[1]))]; ok {
			return append([][]byte{[]byte("EVAL"), body}, args[2:]...), true, nil
		}
		if s.whole {
			return nil, false, stop(errors.New("the master has not told what that script is: have it replicate effects (lua-replicate-commands yes)"))
		}
		return nil, false, resync(fmt.Errorf("script %.40s was loaded before this process began: a snapshot names it", args[1]))
	}
	return args, false, nil
}
