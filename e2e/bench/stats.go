package main

import (
	"fmt"
	"math"
	"slices"
)

// measure is one figure of one run. Case and what name it; two measures of a run never share both.
type measure struct {
	caseName, what, unit string
	value                float64
	peakBytes            int64 // resident memory, 0: not of a process
	// replica and alone name the measure of the same case that this one is compared with, "" for none: what Redis's own
	// replicas need for the same, and what franz-go or Kafka alone need.
	replica, alone string
}

// row is a measure over all runs. Invariant: all series that are not nil have one value per run, in the same order.
type row struct {
	caseName, what, unit string
	value                series
	peakMB               series // nil: not of a process
	toReplica, toAlone   series // ratios within each run; nil: not compared
}

// series are the values of all runs.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String is the median, with the least and the largest value where there are several: "1.20 (1.10..1.31)".
func (s series) String() string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return figure(s[0])
	}
	return fmt.Sprintf("%s (%s..%s)", figure(s.median()), figure(slices.Min(s)), figure(slices.Max(s)))
}

// figure writes a number with about three digits: more would claim a precision that is not there.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1 || a == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// results gathers the measures of all runs.
type results struct {
	rows []*row
	runs int
}

// add takes the measures of one run. Every run has the same ones.
func (r *results) add(measures []measure) error {
	values := map[[2]string]float64{}
	for _, m := range measures {
		values[[2]string{m.caseName, m.what}] = m.value
	}
	for _, m := range measures {
		to := r.find(m)
		to.value = append(to.value, m.value)
		if m.peakBytes > 0 {
			to.peakMB = append(to.peakMB, float64(m.peakBytes)/(1<<20))
		}
		for _, other := range []struct {
			what   string
			ratios *series
		}{{m.replica, &to.toReplica}, {m.alone, &to.toAlone}} {
			if other.what == "" {
				continue
			}
			v, ok := values[[2]string{m.caseName, other.what}]
			if !ok {
				return fmt.Errorf("compare %s, %s: nothing is called %q there", m.caseName, m.what, other.what)
			}
			*other.ratios = append(*other.ratios, m.value/v)
		}
	}
	r.runs++
	for _, to := range r.rows {
		if len(to.value) != r.runs {
			return fmt.Errorf("gather %s, %s: %d values in %d runs", to.caseName, to.what, len(to.value), r.runs)
		}
	}
	return nil
}

func (r *results) find(m measure) *row {
	i := slices.IndexFunc(r.rows, func(to *row) bool { return to.caseName == m.caseName && to.what == m.what })
	if i < 0 {
		// behind the others of its case
		for i = len(r.rows); i > 0 && r.rows[i-1].caseName != m.caseName; i-- {
		}
		if i == 0 {
			i = len(r.rows)
		}
		r.rows = slices.Insert(r.rows, i, &row{caseName: m.caseName, what: m.what, unit: m.unit})
	}
	return r.rows[i]
}
