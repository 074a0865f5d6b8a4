package kafka

import (
	"errors"
	"testing"
)

// Without a session a table tells nothing, and a row goes only where recovery will find it.
func TestOwnRow(t *testing.T) {
	e := &Engine{table: "x-table", tables: newTables("x-table", nil, func(error) {}), wake: make(chan struct{})}
	if _, err := e.OwnRow(0, "k"); !errors.Is(err, errTableClosed) {
		t.Errorf("a partition that was never opened: %v", err)
	}
	e.tables.size("x-table", 2)
	store, err := e.tables.builder()("x-table", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Open(); err != nil {
		t.Fatal(err)
	}
	_ = store.MarkRecovered()
	here, there := "", ""
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		if Partition([]byte(k), 2) == 0 {
			here = k
		} else {
			there = k
		}
	}
	if err := e.SetOwnRow(0, there, []byte("row")); err == nil {
		t.Error("a row of another partition was taken")
	}
	if err := e.SetOwnRow(0, here, []byte("row")); err != nil {
		t.Fatal(err)
	}
	if row, err := e.OwnRow(0, here); err != nil || string(row) != "row" {
		t.Errorf("the open transaction's row: %q, %v", row, err)
	}
	e.dropOverlays()
	if row, err := e.OwnRow(0, here); err != nil || row != nil {
		t.Errorf("after an abort: %q, %v", row, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.OwnRow(0, here); !errors.Is(err, errTableClosed) {
		t.Errorf("a closed table: %v", err)
	}
}
