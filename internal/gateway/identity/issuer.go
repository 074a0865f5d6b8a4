package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"civicbus/internal/gateway/web"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	keysFor     = 5 * time.Minute  // until an issuer's keys are read again: a withdrawn one is not used for longer
	keysAtMost  = 30 * time.Minute // until they are not used any more when the issuer cannot be reached
	askEvery    = 5 * time.Second  // at most, whatever key ids tokens name: nobody can make the gateway flood an issuer
	askWithin   = 5 * time.Second
	maxDocument = 1 << 20
	minRSABits  = 2048
)

// issuer is one issuer with its published keys.
type issuer struct {
	name      string
	discovery string // the address of its metadata; empty: static keys
	http      *http.Client
	log       *slog.Logger

	asking sync.Mutex // held while the issuer is asked

	mu         sync.Mutex
	set        jwk.Set
	read       time.Time
	asked      time.Time
	generation int64 // grows with each reading
}

// newHTTP is a client for issuers' metadata: a redirect could lead anywhere.
func newHTTP() *http.Client {
	return &http.Client{Timeout: askWithin, CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") }}
}

// fresh says whether the keys are still those of a generation, and not due to be read again.
func (i *issuer) fresh(generation int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.generation == generation && (i.discovery == "" || time.Since(i.read) < keysFor)
}

// key is the published key that a token's header fits.
func (i *issuer) key(ctx context.Context, h header) (jwk.Key, int64, error) {
	set, generation, age := i.keys()
	if set != nil && age < keysFor {
		if key, err := choose(set, h); err == nil {
			return key, generation, nil
		}
	}
	if i.discovery != "" {
		if err := i.ask(ctx); err != nil {
			if set, _, age = i.keys(); set == nil || age > keysAtMost {
				return nil, 0, fmt.Errorf("%w: %w", web.ErrUnavailable, err)
			}
			i.log.Warn("the issuer's keys cannot be read again: the old ones are used for now", "issuer", i.name, "error", err)
		}
		set, generation, _ = i.keys()
	}
	key, err := choose(set, h)
	return key, generation, err
}

func (i *issuer) keys() (jwk.Set, int64, time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.discovery == "" {
		return i.set, i.generation, 0
	}
	return i.set, i.generation, time.Since(i.read)
}

// choose finds the one key that fits; a token without a key id is accepted when there is no choice.
func choose(set jwk.Set, h header) (jwk.Key, error) {
	var found jwk.Key
	for n := range set.Len() {
		key, ok := set.Key(n)
		if !ok || !h.fits(key) {
			continue
		}
		if found != nil {
			return nil, errKey
		}
		found = key
	}
	if found == nil {
		return nil, errKey
	}
	return found, nil
}

// ask reads the issuer's metadata and keys, unless that was done just now.
func (i *issuer) ask(ctx context.Context) error {
	i.asking.Lock()
	defer i.asking.Unlock()
	i.mu.Lock()
	recent, have := time.Since(i.asked) < askEvery, i.set != nil
	if !recent {
		i.asked = time.Now()
	}
	i.mu.Unlock()
	if recent {
		if have {
			return nil
		}
		return errors.New("asked in vain just now")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin) // whoever waits with this caller must not fail with it
	defer cancel()
	var metadata struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	body, err := i.fetch(ctx, i.discovery)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &metadata); err != nil {
		return fmt.Errorf("read the metadata of %s: %w", i.name, err)
	}
	if metadata.Issuer != i.name {
		return fmt.Errorf("read the metadata of %s: it is that of another issuer", i.name)
	}
	if body, err = i.fetch(ctx, metadata.Keys); err != nil {
		return err
	}
	set, err := jwk.Parse(body, jwk.WithIgnoreParseError(true)) // one bad key must not take the others with it
	if err != nil {
		return fmt.Errorf("read the keys of %s: %w", i.name, err)
	}
	if set, err = public(set); err != nil {
		return fmt.Errorf("read the keys of %s: %w", i.name, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set, i.read, i.generation = set, time.Now(), i.generation+1
	return nil
}

// public keeps the keys that can check signatures: no symmetric ones, whatever an issuer publishes, and no weak ones.
func public(set jwk.Set) (jwk.Set, error) {
	kept := jwk.NewSet()
	for n := range set.Len() {
		key, _ := set.Key(n)
		pub, err := jwk.PublicKeyOf(key)
		if err != nil {
			continue
		}
		if rsa, ok := pub.(jwk.RSAPublicKey); ok {
			if modulus, ok := rsa.N(); !ok || len(modulus)*8 < minRSABits {
				continue
			}
		}
		if err := kept.AddKey(pub); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// fetch reads a document of the issuer's, over https but for an issuer on this machine.
func (i *issuer) fetch(ctx context.Context, address string) ([]byte, error) {
	if err := secure(address); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := i.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", i.name, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: status %d", i.name, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = errors.New("the document is too large")
	}
	return body, err
}

// secure says whether an address may be asked for keys.
func secure(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("it is no URL")
	}
	host := u.Hostname()
	local := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return errors.New("an issuer's URL must be https")
	}
	return nil
}
