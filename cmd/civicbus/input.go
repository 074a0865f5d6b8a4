package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"

	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

// open opens a file, or standard input for "-".
func open(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the file: %w", err)
	}
	return f, nil
}

// read reads a file whole, at most limit bytes.
func read(cmd *cobra.Command, name string, limit int64) ([]byte, error) {
	f, err := open(cmd, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", name, limit)
	}
	return content, nil
}

// actor is who asks: --actor, else the user that runs the program.
func actor(cmd *cobra.Command) (string, error) {
	given, err := cmd.Flags().GetString("actor")
	if err != nil || given != "" {
		return given, err
	}
	u, err := user.Current()
	if err != nil {
		return "", usage(fmt.Errorf("find out who asks: %w; give --actor", err))
	}
	return "operator:" + u.Username, nil
}

// maxSubjectBytes bounds the file of one subject, or of one event's.
const maxSubjectBytes = 64 << 10

var errSubject = errors.New("want one line scheme:id, for instance fi-hetu: and an identity code")

// subject reads one scheme:id from --file, by default standard input; an argument would stay in the shell's history and in
// the process list.
func subject(cmd *cobra.Command) (refdata.Subject, error) {
	file, err := cmd.Flags().GetString("file")
	if err != nil {
		return refdata.Subject{}, err
	}
	text, err := read(cmd, file, maxSubjectBytes)
	if err != nil {
		return refdata.Subject{}, err
	}
	s, ok := refdata.ParseSubject(string(text))
	if !ok {
		return s, usage(errSubject)
	}
	return s, nil
}

// subjectFlag adds --file for subject.
func subjectFlag(cmd *cobra.Command) {
	cmd.Flags().StringP("file", "f", "-", "file that holds the subject, one line scheme:id; - is standard input")
}
