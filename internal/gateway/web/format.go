package web

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// Media types.
const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// marshal writes JSON on one line with a space after each colon and comma, as it stands in the documentation: answers are
// read by people with curl too.
func marshal(w io.Writer, v any) error {
	var compact bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(spaced(compact.Bytes()))
	return err
}

// JSON answers a request of a Serve route.
func JSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	return marshal(w, v)
}

// spaced puts a space after each colon and comma of compact JSON that stands outside of text.
func spaced(compact []byte) []byte {
	out := make([]byte, 0, len(compact)+len(compact)/8)
	text, escaped := false, false
	for _, c := range compact {
		out = append(out, c)
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case !text && (c == ':' || c == ','):
			out = append(out, ' ')
		}
	}
	return out
}

// unmarshal reads one JSON value and nothing after it.
func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
