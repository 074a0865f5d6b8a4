package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// formatFlag adds -o with the formats that a command knows, the first of them the default.
func formatFlag(cmd *cobra.Command, formats ...string) {
	cmd.Flags().StringP("output", "o", formats[0], strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f := format(cmd); !slices.Contains(formats, f) {
			return usage(fmt.Errorf("%s: -o %q: want %s", cmd.CommandPath(), f, strings.Join(formats, " or ")))
		}
		return run(cmd, args)
	}
}

func format(cmd *cobra.Command) string {
	f, _ := cmd.Flags().GetString("output") // the flag is there: formatFlag added it
	return f
}

// printJSON writes a value, indented.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// printTable writes rows under a header, without colours or frames: each cell can be found with cut or awk, and NO_COLOR holds.
func printTable(w io.Writer, header []string, rows [][]any) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	head := make(table.Row, len(header))
	for i, h := range header {
		head[i] = h
	}
	t.AppendHeader(head)
	for _, r := range rows {
		t.AppendRow(r)
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// note tells people something beside the answer.
func note(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}

// progress shows how far long work has come, on a terminal alone. Count one by calling step; total -1: not known.
func progress(cmd *cobra.Command, total int64, what string) (step func(), end func()) {
	stderr, ok := cmd.ErrOrStderr().(*os.File)
	if !ok {
		return func() {}, func() {}
	}
	if info, err := stderr.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}, func() {}
	}
	bar := progressbar.NewOptions64(total, progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
	return func() { _ = bar.Add(1) }, func() { _ = bar.Finish() } // a bar that cannot be drawn is not worth an end
}

// printLine writes a value as one line of JSON.
func printLine(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
