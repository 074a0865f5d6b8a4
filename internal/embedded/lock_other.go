//go:build !unix

package embedded

import "os"

// lock only makes the file: without flock there is nothing that a killed process is sure to release. Two processes then
// meet at the broker's port instead, unless both take a free one.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return ignoreClosed(f.Close), nil
}
