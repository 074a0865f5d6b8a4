package web

import "sync"

// codes are the problem codes that there are, with what each means: the documentation lists them, metrics use no other.
type codes struct {
	mu    sync.RWMutex
	known map[string]string
}

// Explain adds a problem code, snake_case, with what it means in one sentence. A package explains its codes when it declares
// its routes; a code that nobody explained is counted as "other".
func (a *API) Explain(code, meaning string) {
	a.codes.mu.Lock()
	defer a.codes.mu.Unlock()
	if a.codes.known == nil {
		a.codes.known = map[string]string{}
	}
	a.codes.known[code] = meaning
}

func (c *codes) label(code string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if _, ok := c.known[code]; ok {
		return code
	}
	return "other"
}

// ownCodes are those of this package.
var ownCodes = [][2]string{
	{"token_missing", "The request has no Authorization header with a bearer token."},
	{"token_invalid", "The token is not accepted: expired, not for this gateway, of an unknown issuer or client, or not signed as it should be."},
	{"wrong_caller", "The token is good, and this is not for callers of its kind."},
	{"scope_missing", "The token is good, and lacks the scope that this needs."},
	{"too_many_requests", "The client has used up its requests for now; Retry-After says for how many seconds."},
	{"not_found", "There is nothing at this address, or nothing that the caller may see."},
	{"method_not_allowed", "The address has other methods; Allow lists them."},
	{"malformed", "The body is no JSON, or cannot be decompressed or read."},
	{"invalid", "The request is not as documented; errors says where."},
	{"unsupported_media_type", "The body is of a media type that this does not take."},
	{"unsupported_encoding", "The body is compressed in a way that this does not take."},
	{"too_large", "The body is larger than this takes, decompressed."},
	{"body_timeout", "The body did not come in time."},
	{"unavailable", "Something that the gateway needs cannot be reached for now. Ask again."},
	{"internal", "An error of the gateway's own."},
}
