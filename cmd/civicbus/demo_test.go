package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestDemo lets the demo tell everything once. Then each single expectation is broken in turn, and every time the same demo must end
// with exit code 1.
func TestDemo(t *testing.T) {
	t.Parallel()
	var told demoTold
	var out, errs bytes.Buffer
	root := newRoot()
	cmd, _, err := root.Find([]string{"demo"})
	if err != nil {
		t.Fatal(err)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if told, err = tellDemo(cmd); err != nil {
			return err
		}
		return concludeDemo(cmd.OutOrStdout(), told)
	}
	root.SetArgs([]string{"demo", "--lease-age", "300ms"})
	root.SetOut(&out)
	root.SetErr(&errs)
	if code := execute(t.Context(), root, &errs); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "civicbus demo\n```\n\n```text\n")
	sample, _, ok := strings.Cut(rest, "```")
	shown := strings.Split(regexp.QuoteMeta(sample), "…")
	if !ok || !regexp.MustCompile(`(?s)\A`+strings.Join(shown, ".*")+`\z`).MatchString(out.String()) {
		t.Errorf("README.md shows\n%s\nand the demo\n%s", sample, out.String())
	}
	posts := 0
	for _, act := range told.acts {
		for _, line := range act.Lines {
			if line.How == "POST /api/events" {
				posts++
			}
		}
	}
	if n := told.story.Events(); posts != n {
		t.Errorf("%d of the story's %d events were published", posts, n)
	}

	broken := 0
	try := func(what string) {
		broken++
		conclude := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return concludeDemo(io.Discard, told) }}
		conclude.SetArgs([]string{})
		if code := execute(context.Background(), conclude, io.Discard); code != 1 {
			t.Errorf("exit code %d with a broken %s", code, what)
		}
	}
	for i := range told.scenarios {
		breakEach(reflect.ValueOf(&told.scenarios[i].Steps).Elem(), told.scenarios[i].Name, try)
	}
	breakEach(reflect.ValueOf(&told.story.Acts).Elem(), "story", try)
	if broken < 1000 {
		t.Errorf("only %d expectations were broken: are they found?", broken)
	}
	if conclude := concludeDemo(io.Discard, told); conclude != nil {
		t.Errorf("what was mended is still broken: %v", conclude)
	}
}

// instructions are the members that say what is done, or are titles: the rest are expectations. That an event's subject stands at this
// index is looked at by the test of package examples.
var instructions = []string{"Title", "Name", "Consents", "Event", "Ended", "Answers", "Index"}

// breakEach breaks every expectation in a value in turn, calls try, and mends it again: each text, number and truth is another, each
// element of a list is missing, and each list of texts has one more.
func breakEach(v reflect.Value, path string, try func(what string)) {
	with := func(other reflect.Value, how string) {
		was := reflect.ValueOf(v.Interface())
		v.Set(other)
		try(path + how)
		v.Set(was)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; !slices.Contains(instructions, name) {
				breakEach(v.Field(i), path+"."+name, try)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			breakEach(v.Index(i), fmt.Sprintf("%s[%d]", path, i), try)
			rest := reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v.Slice(0, i))
			with(reflect.AppendSlice(rest, v.Slice(i+1, v.Len())), fmt.Sprintf(" without [%d]", i))
		}
		if v.Type().Elem().Kind() == reflect.String {
			with(reflect.Append(v.Slice3(0, v.Len(), v.Len()), reflect.ValueOf("data.spoiled")), " with one more")
		}
	case reflect.String:
		with(reflect.ValueOf(v.String()+"x").Convert(v.Type()), "")
	case reflect.Bool:
		with(reflect.ValueOf(!v.Bool()).Convert(v.Type()), "")
	default:
		panic("no expectation is of this kind: " + v.Kind().String() + " at " + path)
	}
}
