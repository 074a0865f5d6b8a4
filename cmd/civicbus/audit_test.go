package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/internal/audit"
)

// audits is part of an operator's day: the events that were published before have been decided.
func audits(t *testing.T) {
	const who = "fi-hetu:140392-9029\n"
	var lines []shown
	delivered := func() bool {
		lines = nil
		on(t, who, "audit", "show", "-o", "json").want(t, 0).json(t, &lines)
		return slices.ContainsFunc(lines, func(l shown) bool {
			return l.By == "router" && l.Subscriber != "" && l.Verdict == "permit" && l.Basis != "" && l.Purpose != "" && l.Delivery != ""
		}) && slices.ContainsFunc(lines, func(l shown) bool { return l.By == "command" && l.What == "grant" })
	}
	for deadline := time.Now().Add(20 * time.Second); !delivered(); { // the audit comes after the delivery
		if time.Now().After(deadline) {
			t.Fatalf("%+v", lines)
		}
	}
	on(t, who, "audit", "show", "-n", "1").want(t, 0, "VERDICT", lines[0].What)
	on(t, "test:nobody\n", "audit", "show", "-o", "json").want(t, 0, "[]")
	on(t, "nobody", "audit", "show").want(t, 2)

	var result audit.Result
	on(t, "", "audit", "verify", "-o", "json").want(t, 0).json(t, &result)
	if result.Entries == 0 || len(result.Findings) > 0 || len(result.Chains) != 8 || !result.MACs {
		t.Errorf("%+v", result)
	}
	on(t, "", "audit", "verify").want(t, 0, "whole", "all as they were written")
	var uses []audit.Use
	on(t, "", "audit", "report", "-o", "json").want(t, 0).json(t, &uses)
	if !slices.ContainsFunc(uses, func(u audit.Use) bool { return u.Subscriber == "kela.fi" && u.Permitted > 0 && len(u.Bases) > 0 }) {
		t.Errorf("%+v", uses)
	}
	on(t, "", "audit", "report").want(t, 0, "SUBSCRIBER", "kela.fi")

	var counted []usageLine
	for deadline := time.Now().Add(20 * time.Second); len(counted) == 0 && time.Now().Before(deadline); { // the group counts at its own pace
		on(t, "", "usage", "-o", "json").want(t, 0).json(t, &counted)
	}
	on(t, "", "usage").want(t, 0, "DELIVERED", "sub-kela-address")
	on(t, "", "usage", "sub-kela-address").want(t, 0, "kela.fi")
	on(t, "", "usage", "no-such-subscription").want(t, 1, "nothing was decided")
	heads(t)
}

func heads(t *testing.T) {
	var signed said
	for deadline := time.Now().Add(20 * time.Second); signed.out == ""; { // the first is signed when the chain has begun
		if signed = on(t, "", "audit", "heads").want(t, 0, "public key: "); time.Now().After(deadline) {
			t.Fatal("no head is signed")
		}
	}
	file := filepath.Join(t.TempDir(), "heads.jsonl")
	if err := os.WriteFile(file, []byte(signed.out), 0o600); err != nil {
		t.Fatal(err)
	}
	_, public, _ := strings.Cut(strings.TrimSpace(signed.err), "public key: ")
	on(t, "", "audit", "verify", "--head", file, "--public-key", public).want(t, 0, "all as they were written")
	on(t, "", "audit", "verify", "--head", file, "--public-key", hex.EncodeToString(make([]byte, 32))).want(t, 1, "signature is not valid")
	on(t, "", "audit", "verify", "--public-key", "x").want(t, 2, "--public-key")
	on(t, "", "audit", "verify", "--head", "/nonexistent").want(t, 1, "nonexistent")
	on(t, "{", "audit", "verify", "--head", "-").want(t, 1, "line 1")
}
