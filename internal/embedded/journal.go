package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/sr"
)

// change is one line of the journal: something that the registry accepted. The fields that op does not need are absent.
type change struct {
	Op         string               `json:"op"` // "register", "level" or "delete"
	Subject    string               `json:"subject,omitempty"`
	Version    int                  `json:"version,omitempty"`
	ID         int                  `json:"id,omitempty"`
	Schema     string               `json:"schema,omitempty"`
	References []sr.SchemaReference `json:"references,omitempty"`
	Level      string               `json:"level,omitempty"`
	Permanent  bool                 `json:"permanent,omitempty"`
}

const (
	opRegister = "register" // Schema became Version of Subject with the id ID
	opLevel    = "level"    // Level is the compatibility level of Subject (empty: of all); an empty Level takes it away
	opDelete   = "delete"   // Version of Subject (0: every version) was deleted
)

// journal is an append-only file of changes, a JSON object a line. A line counts once its line feed is on disk, so a
// last line without one was never acknowledged and is cut off. The nil journal keeps nothing.
type journal struct{ file *os.File }

// openJournal reads every change of the file at path, in order, into replay, and returns the journal ready for more.
// Damage anywhere but in an unfinished last line is an error: ids given out after it would differ from the first time.
func openJournal(path string, replay func(change) error) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	if err := j.load(replay); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *journal) load(replay func(change) error) error {
	raw, err := io.ReadAll(j.file)
	if err != nil {
		return err
	}
	whole := raw[:bytes.LastIndexByte(raw, '\n')+1]
	line := 0
	for text := range bytes.Lines(whole) {
		line++
		var c change
		if err := json.Unmarshal(text, &c); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if err := replay(c); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	if len(whole) < len(raw) {
		if err := j.file.Truncate(int64(len(whole))); err != nil {
			return fmt.Errorf("cut off an unfinished last line: %w", err)
		}
	}
	if _, err := j.file.Seek(int64(len(whole)), io.SeekStart); err != nil {
		return err
	}
	return syncDir(filepath.Dir(j.file.Name()))
}

// append returns once the change is on disk. After an error the file may end in half a line: no more may be appended.
func (j *journal) append(c change) error {
	if j == nil {
		return nil
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return ignoreClosed(j.file.Close)()
}

// syncDir makes a file just created in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ignoreClosed makes a second close of a file harmless.
func ignoreClosed(f func() error) func() error {
	return func() error {
		if err := f(); !errors.Is(err, os.ErrClosed) {
			return err
		}
		return nil
	}
}
