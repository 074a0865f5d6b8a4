package app

import "testing"

// TestOwnRegistryTellsOfTheProcess: the dashboard shows these two.
func TestOwnRegistryTellsOfTheProcess(t *testing.T) {
	families, err := ownRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_bytes", "go_goroutines"} {
		if !found[name] {
			t.Errorf("%s is not there", name)
		}
	}
}
