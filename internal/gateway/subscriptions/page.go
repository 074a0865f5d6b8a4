package subscriptions

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
)

// pageParams ask for a page of a list.
type pageParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many, at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"Where the page before ended: of Link, not to be made by hand."`
}

// page is a part of the subscriptions that who asks may see, and the link to the next.
func (s *server) page(ctx context.Context, in *pageParams, path string) (rows []*codecs.Subscription, link string, err error) {
	who := web.From(ctx)
	after := ""
	if in.Cursor != "" {
		var ok bool
		if after, ok = s.open(in.Cursor, who.Actor); !ok {
			return nil, "", web.Fail(http.StatusBadRequest, "cursor_invalid", "the cursor is not one that this list gave", web.Fault{Field: "cursor", Code: "cursor_invalid"})
		}
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, row := range snap.Subscriptions() {
		if row.ID <= after || who.Operator == "" && row.Subscriber != who.Organisation {
			continue
		}
		if len(rows) == in.Limit {
			next := path + "?limit=" + strconv.Itoa(in.Limit) + "&cursor=" + s.seal(rows[len(rows)-1].ID, who.Actor)
			return rows, fmt.Sprintf(`<%s>; rel="next"`, next), nil
		}
		rows = append(rows, row)
	}
	return rows, "", nil
}

// seal makes a cursor of an id, good for one caller.
func (s *server) seal(id, actor string) string {
	return base64.RawURLEncoding.EncodeToString(append(s.mac(id, actor), id...))
}

// open reads a cursor.
func (s *server) open(cursor, actor string) (id string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < macBytes || strings.ContainsAny(cursor, "\r\n") { // which base64 would pass over
		return "", false
	}
	id = string(raw[macBytes:])
	return id, hmac.Equal(raw[:macBytes], s.mac(id, actor))
}

const macBytes = 16

func (s *server) mac(id, actor string) []byte {
	m := hmac.New(sha256.New, s.cfg.CursorKey)
	m.Write([]byte(actor + "\x00" + id))
	return m.Sum(nil)[:macBytes]
}
