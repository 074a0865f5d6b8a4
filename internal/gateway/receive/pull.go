package receive

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/web"

	"github.com/danielgtaylor/huma/v2"
)

const (
	batchType = "application/cloudevents-batch+json"
	pullLimit = 100
	pullWait  = 30 // seconds
)

var pullParameters = []parameter{paramCursor, paramFrom,
	{"limit", "How many deliveries at most.", whole(1, feed.MaxLimit, pullLimit)},
	{"wait", "How many seconds to wait for the first one, when there is none.", whole(0, pullWait, 0)}}

// cloudEvent is what a delivery is documented as.
func cloudEvent() *huma.Schema {
	str := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{Type: huma.TypeObject, Description: "A CloudEvent 1.0 in JSON format, with the bus's extensions.", AdditionalProperties: true,
		Required: []string{"specversion", "id", "source", "type", "subject", "subscription"},
		Properties: map[string]*huma.Schema{"specversion": str, "id": str, "source": str, "type": str, "time": str, "subject": str, "subjectrole": str, "dataschema": str,
			"datacontenttype": str, "correlationid": str, "subscription": str, "purpose": str, "legalbasis": str, "grantreference": str, "withheld": str, "redriven": str, "dataref": str,
			"data": {Description: "The permitted fields; the others are null and listed in withheld. A thin delivery has a dataref instead."}}}
}

func (s *server) pullRoutes(a *web.API) {
	problems := []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone}
	events := document(batchType, &huma.Schema{Type: huma.TypeArray, Items: cloudEvent()}, pullParameters...)
	web.Serve(a, web.Route{ID: "pull-events", Method: http.MethodGet, Path: "/api/subscriptions/{id}/events", Tag: "receive", Summary: "Deliveries from a cursor on",
		Description: "A batch of CloudEvents, in each subject's order. Link with rel=\"next\" has the cursor to go on with, also when the batch is empty; keep it when the batch is safe with you. " +
			"Reading the same cursor again gives the same deliveries, as far as they are still permitted.",
		For: web.Organisations, Scope: web.ScopeReceive, Problems: problems, Timeout: (pullWait + 30) * time.Second,
		Document: func(op *huma.Operation) {
			events(op)
			op.Responses["200"].Headers = map[string]*huma.Param{"Link": {Description: "Where to go on (RFC 8288).", Schema: &huma.Schema{Type: huma.TypeString}}}
		}}, s.pull)
	web.Serve(a, web.Route{ID: "get-event-data", Method: http.MethodGet, Path: "/api/subscriptions/{id}/events/{ref}", Tag: "receive", Summary: "The data of a thin delivery",
		Description: "Decided anew and on record as an access. A CloudEvent in binary mode: its attributes are ce- headers, its data is the body.",
		For:         web.Organisations, Scope: web.ScopeReceive, Problems: problems,
		Document: document("application/json", &huma.Schema{Description: "The permitted fields; the others are null and listed in ce-withheld."})}, s.data)
}

// pull answers with one page.
func (s *server) pull(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	q, err := query(r, pullParameters...)
	if err != nil {
		return err
	}
	if err := s.own(ctx, id); err != nil {
		return err
	}
	at, err := s.begin(ctx, id, q["cursor"], q["from"])
	if err != nil {
		return problem(ctx, err)
	}
	reader := s.cfg.Feed.Reader(id)
	defer reader.Close()
	limit, until := number(q, "limit", pullLimit), time.Now().Add(time.Duration(number(q, "wait", 0))*time.Second)
	if expires := web.From(ctx).Expires; expires.Before(until) { // nothing is waited for with a token that has expired
		until = expires
	}
	var page feed.Page
	for {
		if page, err = reader.Read(ctx, at, limit, time.Until(until)); err != nil {
			return problem(ctx, err)
		}
		if len(page.Events) == 0 || s.cfg.Feed.Current(page.Confirmed) {
			break
		}
	}
	next := url.Values{"cursor": {s.cfg.Feed.Cursor(id, page.Next)}}
	for _, name := range []string{"limit", "wait"} {
		if q[name] != "" {
			next.Set(name, q[name])
		}
	}
	w.Header().Set("Link", "</api/subscriptions/"+url.PathEscape(id)+"/events?"+next.Encode()+`>; rel="next"`)
	w.Header().Set("Content-Type", batchType)
	size := 2
	for i := range page.Events {
		size += len(page.Events[i].JSON) + 1
	}
	body := make([]byte, 1, size)
	body[0] = '['
	for i := range page.Events {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, page.Events[i].JSON...)
	}
	body = append(body, ']')
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	s.sent.WithLabelValues(wayPull).Add(float64(len(page.Events)))
	_, _ = w.Write(body) // a caller that has gone asks again from where it was
	return nil
}

// data answers with what a thin delivery refers to.
func (s *server) data(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	if _, err := query(r); err != nil {
		return err
	}
	if err := s.own(ctx, id); err != nil {
		return err
	}
	e, _, err := s.cfg.Feed.One(ctx, id, r.PathValue("ref"))
	if err != nil {
		var end *feed.Ended
		if errors.As(err, &end) && end.Code == feed.CursorInvalid {
			return web.Fail(http.StatusNotFound, feed.CursorInvalid, end.Detail)
		}
		return problem(ctx, err)
	}
	for _, a := range e.Attributes {
		w.Header().Set("Ce-"+a.Name, escapeHeader(a.Value))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(e.Data)))
	s.sent.WithLabelValues(wayDataRef).Inc()
	_, _ = w.Write(e.Data)
	return nil
}

// escapeHeader is the CloudEvents HTTP binding's: what is not printable ASCII, and space, double quote and percent, as %XX.
func escapeHeader(v string) string {
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(v))
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			out = append(out, '%', hex[c>>4], hex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}
