// Package waits is for packages whose tests wait for what a protocol lets pass, and compute little.
package waits

import (
	"flag"
	"testing"
)

// Run runs a package's tests, so many of its parallel ones at once that they wait side by side, unless -parallel says how many.
// It returns what TestMain passes to os.Exit.
func Run(m *testing.M, atOnce string) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic("waits: " + err.Error())
		}
	}
	return m.Run()
}
