package connectors

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redriver/redriver/sink"
)

// Values are checked values of a table, with the defaults filled in.
type Values struct {
	typed map[string]any
	// shown is how each is printed: as it was written, a default as in the table, a secret hidden.
	shown map[string]string
}

// The getters panic on a key that the table has not, or has with another type: that is a bug of ours.
func (v Values) text(name string) string            { s, _ := v.typed[name].(string); return s }
func (v Values) list(name string) []string          { s, _ := v.typed[name].([]string); return s }
func (v Values) integer(name string) int64          { return v.typed[name].(int64) }
func (v Values) duration(name string) time.Duration { return v.typed[name].(time.Duration) }
func (v Values) fraction(name string) float64       { return v.typed[name].(float64) }

// raw is a value as a file, a variable or a flag gives it: its text, or the items of a list.
type raw struct {
	text string
	list []string
	// isList: list holds, not text.
	isList bool
	// line in the file; 0 if it came from elsewhere.
	line int
	// from names a variable or flag.
	from string
}

func (r raw) String() string {
	if r.isList {
		return strings.Join(r.list, ",")
	}
	return r.text
}

// where is put behind a message.
func (r raw) where() string {
	switch {
	case r.from != "":
		return " (" + r.from + ")"
	case r.line > 0:
		return " (line " + strconv.Itoa(r.line) + ")"
	}
	return ""
}

const hidden = "(hidden)"

// parseSection checks a section against its table. All faults go to fault; what is faulty has its default in the result.
func parseSection(section string, keys []Key, given map[string]raw, lookup Lookup, fault func(Fault)) Values {
	v := Values{typed: map[string]any{}, shown: map[string]string{}}
	for name, r := range given {
		if !hasKey(keys, name) {
			fault(unknownKey(section, name, keys, r.where()))
		}
	}
	for i := range keys {
		k := &keys[i]
		if k.Default != "" {
			v.typed[k.Name], _ = k.parse(k.Default)
			v.shown[k.Name] = k.Default
		} else {
			v.typed[k.Name] = k.zero()
		}
		r, ok := given[k.Name]
		if ok && r.String() == "" {
			fault(Fault{section, k.Name, "is empty" + r.where(), "give it a value, or leave the key out"})
			continue
		}
		if !ok {
			if k.Required {
				fault(Fault{section, k.Name, "is missing", "set it: " + firstSentence(k.Doc)})
			}
			continue
		}
		written := r.String()
		text, err := resolve(written, lookup)
		if err != nil {
			fault(Fault{section, k.Name, err.Error() + r.where(), ""})
			continue
		}
		if r.isList && k.Type != TypeList {
			fault(Fault{section, k.Name, "is a list" + r.where(), "give one " + string(k.Type)})
			continue
		}
		value, err := k.parse(text)
		if err != nil {
			fault(Fault{section, k.Name, k.describe(text) + err.Error() + r.where(), ""})
			continue
		}
		v.typed[k.Name] = value
		v.shown[k.Name] = k.show(written, text)
	}
	return v
}

// describe repeats a faulty value, unless it is a secret.
func (k *Key) describe(text string) string {
	if k.Secret {
		return ""
	}
	return quote(text) + ": "
}

// show is what may be printed of a value: of a secret, where it is kept if that alone was written.
func (k *Key) show(written, text string) string {
	switch {
	case !k.Secret:
		return text
	case onlyReference.MatchString(written):
		return written
	}
	return hidden
}

func (k *Key) zero() any {
	switch k.Type {
	case TypeList:
		return []string(nil)
	case TypeInt, TypeSize:
		return int64(0)
	case TypeDuration:
		return time.Duration(0)
	case TypeFraction:
		return float64(0)
	default:
		return ""
	}
}

// parse turns a text into the key's type and holds it to the bounds.
func (k *Key) parse(text string) (any, error) {
	value, err := k.convert(text)
	if err != nil {
		return nil, err
	}
	if n, ok := number(value); ok {
		low, high := math.Inf(-1), math.Inf(1)
		if k.Min != "" {
			low = k.bound(k.Min)
		}
		if k.Max != "" {
			high = k.bound(k.Max)
		}
		if n < low || n > high {
			return nil, fmt.Errorf("out of bounds, want %s", k.Bounds())
		}
	}
	if k.check != nil {
		if err := k.check(text); err != nil {
			return nil, err
		}
	}
	return value, nil
}

func (k *Key) bound(text string) float64 {
	v, err := k.convert(text)
	if err != nil {
		panic("connectors: bound of " + k.Name + ": " + err.Error())
	}
	n, _ := number(v)
	return n
}

func number(value any) (float64, bool) {
	switch n := value.(type) {
	case int64:
		return float64(n), true
	case time.Duration:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

func (k *Key) convert(text string) (any, error) {
	switch k.Type {
	case TypeInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errors.New("want a whole number")
		}
		return n, nil
	case TypeDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, errors.New("want a time with its unit, such as 500ms, 20s, 5m or 1h30m")
		}
		return d, nil
	case TypeSize:
		return parseSize(text)
	case TypeFraction:
		return parseFraction(text)
	case TypeList:
		return splitList(text)
	case TypeChoice:
		if slices.Contains(k.Choices, text) {
			return text, nil
		}
		if near, ok := nearest(text, k.Choices); ok {
			return nil, fmt.Errorf("want %s; did you mean %s?", orList(k.Choices), near)
		}
		return nil, fmt.Errorf("want %s", orList(k.Choices))
	case TypeText:
	}
	return text, nil
}

var sizePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

// sizeUnits are powers of 1024 with an i, and of 1000 without, as SI has it.
var sizeUnits = map[string]float64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

func parseSize(text string) (any, error) {
	want := errors.New("want a number of bytes or one with its unit, such as 1048576, 16MiB or 8GiB")
	m := sizePattern.FindStringSubmatch(text)
	if m == nil {
		return nil, want
	}
	n, err := strconv.ParseFloat(m[1], 64)
	unit, ok := sizeUnits[strings.ToLower(m[2])]
	if err != nil || !ok || n*unit >= math.MaxInt64 {
		return nil, want
	}
	return int64(n * unit), nil
}

func parseFraction(text string) (any, error) {
	digits, percent := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || math.IsNaN(f) {
		return nil, errors.New("want a number such as 0.2, or 20%")
	}
	if percent {
		f /= 100
	}
	return f, nil
}

func splitList(text string) (any, error) {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			return nil, errors.New("an item of the list is empty")
		}
		items = append(items, item)
	}
	return items, nil
}

func checkAddresses(text string) error {
	var errs []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		host, port, err := net.SplitHostPort(item)
		n, numErr := strconv.Atoi(port)
		switch {
		case strings.Contains(item, "://"):
			errs = append(errs, fmt.Sprintf("%s is a URL, want host:port", quote(item)))
		case err != nil || host == "":
			errs = append(errs, fmt.Sprintf("%s is no address, want host:port, IPv6 as [host]:port", quote(item)))
		case numErr != nil || n < 1 || n > 65535:
			errs = append(errs, fmt.Sprintf("port of %s, want 1 to 65535", quote(item)))
		}
	}
	if errs != nil {
		return errors.New(strings.Join(errs, "; "))
	}
	return nil
}

func checkDatabases(text string) error {
	_, err := sink.ParseDatabases(text)
	return err
}

func checkAbsolute(text string) error {
	if !filepath.IsAbs(text) {
		return errors.New("want an absolute path")
	}
	return nil
}

var validName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// maxNameBytes keeps <prefix>.changes below Kafka's own bound of 249.
const maxNameBytes = 200

func checkName(text string) error {
	if !validName.MatchString(text) {
		return errors.New("use letters, digits, dot, dash and underscore")
	}
	if len(text) > maxNameBytes {
		return fmt.Errorf("longer than %d characters", maxNameBytes)
	}
	return nil
}

func firstSentence(doc string) string {
	s, _, _ := strings.Cut(doc, ". ")
	return strings.TrimSuffix(s, ".")
}
