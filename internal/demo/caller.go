package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Who is for whom a token stands: one of the three.
type Who struct {
	Organisation, Operator string
	Person                 string // scheme:id
}

// caller asks the gateway, as anybody.
type caller struct {
	base  string
	token func(Who) (string, error)
	http  http.Client
}

// answer is the gateway's.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// into reads the answer's JSON.
func (a answer) into(v any) error {
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("read an answer with status %d: %w", a.status, err)
	}
	return nil
}

// ask sends a request, with a body of JSON unless it is nil.
func (c *caller) ask(ctx context.Context, as Who, method, path, contentType string, body []byte) (answer, error) {
	q, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	token, err := c.token(as)
	if err != nil {
		return answer{}, err
	}
	q.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		q.Header.Set("Content-Type", contentType)
	}
	r, err := c.http.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer{r.StatusCode, r.Header, text}, nil
}

// do asks with and for JSON, and takes a refusal for an error. Without a body body is nil.
func (c *caller) do(ctx context.Context, as Who, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	a, err := c.ask(ctx, as, method, path, "application/json", text)
	if err != nil {
		return err
	}
	if a.status >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: status %d: %s", method, path, a.status, a.code())
	}
	if into == nil {
		return nil
	}
	return a.into(into)
}

// code is a problem's.
func (a answer) code() string {
	var problem struct{ Code string }
	_ = json.Unmarshal(a.body, &problem) // what is no problem has no code
	return problem.Code
}
