// Package lint holds the rules of this repository that no general linter knows, as tests: which package may import which,
// and what every file looks like. It has no code of its own.
package lint
