//go:build !synctests

package flaw

// Planted is false: defects can be planted only under the build tag synctests.
func Planted(Flaw) bool { return false }
