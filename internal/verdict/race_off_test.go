//go:build !race

package verdict

const raceDetector = false
