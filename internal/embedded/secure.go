package embedded

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// User is who may do everything on a secured cluster: SCRAM-SHA-512 at the broker, and HTTP basic authentication for what
// changes something at the registry. What only reads the registry needs no user: schemas hold no data.
type User struct{ Name, Password string }

const (
	mechanism  = "SCRAM-SHA-512"
	iterations = 4096 // the only number that the broker tells clients
)

// securing makes the broker ask every client who it is, and allow each what it was given.
func securing(superuser User, dir string) ([]kfake.Opt, error) {
	if superuser.Name == "" || superuser.Password == "" {
		return nil, errors.New("secure the embedded kafka: its superuser needs a name and a password")
	}
	if dir != "" {
		if err := remember(superuser, filepath.Join(dir, "sasl.json")); err != nil {
			return nil, fmt.Errorf("secure the embedded kafka: %w", err)
		}
	}
	return []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser(mechanism, superuser.Name, superuser.Password)}, nil
}

// remember puts the superuser among the users that the broker keeps. It reads them from that file when it starts, in the
// place of those it is told of: without this a cluster that was set up without users, or whose superuser has another
// password now, would let nobody in.
func remember(superuser User, path string) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it will keep those that it is told of
	}
	if err != nil {
		return fmt.Errorf("read the broker's users: %w", err)
	}
	kept := map[string]json.RawMessage{}
	users := map[string]json.RawMessage{}
	err = json.Unmarshal(raw, &kept)
	if err == nil && kept["scram512"] != nil {
		err = json.Unmarshal(kept["scram512"], &users)
	}
	if err != nil {
		return fmt.Errorf("read the broker's users: %w", err)
	}
	verifier, err := verify(superuser.Password)
	if err != nil {
		return err
	}
	users[superuser.Name] = verifier
	if kept["scram512"], err = json.Marshal(users); err != nil {
		return fmt.Errorf("write the broker's users: %w", err)
	}
	if raw, err = json.Marshal(kept); err != nil {
		return fmt.Errorf("write the broker's users: %w", err)
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write the broker's users: %w", err)
	}
	return os.Rename(path+".new", path)
}

// verify is what the broker keeps of a password.
func verify(password string) (json.RawMessage, error) {
	salt := make([]byte, 24)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	salted, err := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	if err != nil {
		return nil, fmt.Errorf("salt a password: %w", err)
	}
	return json.Marshal(map[string]any{"mechanism": mechanism, "salt": salt, "salted_pass": salted, "iterations": iterations})
}

// lastUnhandled is the newest ApiVersions request whose answer is changed. Later ones name the cluster that they expect, which
// the broker checks, and come from clients that need no change.
const lastUnhandled = 3

// offerOldHandshake lets clients on librdkafka in. They look for version 0 of SaslHandshake to tell whether a broker
// authenticates at all, and then use version 1, which is the only one that this broker speaks and says so.
func offerOldHandshake(ctx context.Context, k *kfake.Cluster, superuser User) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.SASL(scram.Auth{User: superuser.Name, Pass: superuser.Password}.AsSha512Mechanism()))
	if err != nil {
		return fmt.Errorf("ask the embedded kafka what it speaks: %w", err)
	}
	defer cl.Close()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "civicbus", "1"
	answer, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("ask the embedded kafka what it speaks: %w", err)
	}
	keys := slices.Clone(answer.ApiKeys)
	for i := range keys {
		if keys[i].ApiKey == int16(kmsg.SASLHandshake) {
			keys[i].MinVersion = 0
		}
	}
	k.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if req.GetVersion() > lastUnhandled {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		resp.ApiKeys = slices.Clone(keys)
		resp.SupportedFeatures, resp.FinalizedFeatures, resp.FinalizedFeaturesEpoch = answer.SupportedFeatures, answer.FinalizedFeatures, answer.FinalizedFeaturesEpoch
		return resp, nil, true
	})
	return nil
}

// withoutAuthorizer makes the broker answer questions about rights as Kafka does where there are none, not with an empty list.
func withoutAuthorizer(k *kfake.Cluster) {
	const why = "no authorizer is configured on the broker"
	k.ControlKey(int16(kmsg.DescribeACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
		resp.ErrorCode, resp.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(why)
		return resp, nil, true
	})
	k.ControlKey(int16(kmsg.CreateACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateACLsResponse)
		for range req.(*kmsg.CreateACLsRequest).Creations {
			r := kmsg.NewCreateACLsResponseResult()
			r.ErrorCode, r.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(why)
			resp.Results = append(resp.Results, r)
		}
		return resp, nil, true
	})
	k.ControlKey(int16(kmsg.DeleteACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		resp := req.ResponseKind().(*kmsg.DeleteACLsResponse)
		for range req.(*kmsg.DeleteACLsRequest).Filters {
			r := kmsg.NewDeleteACLsResponseResult()
			r.ErrorCode, r.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(why)
			resp.Results = append(resp.Results, r)
		}
		return resp, nil, true
	})
}

// guarded lets everybody read the registry, and the superuser alone change it.
func guarded(next http.Handler, superuser User) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, password, _ := req.BasicAuth()
		same := subtle.ConstantTimeCompare([]byte(name), []byte(superuser.Name)) & subtle.ConstantTimeCompare([]byte(password), []byte(superuser.Password))
		if same == 1 || reads(req) {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="schema registry"`)
		respond(w, nil, refuse(http.StatusUnauthorized*100+1, "only civicbus changes schemas here"))
	})
}

// reads says whether a request changes nothing: looking a schema up and checking one are POST requests too.
func reads(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return strings.HasPrefix(req.URL.Path, "/compatibility/") || strings.HasPrefix(req.URL.Path, "/subjects/") && strings.Count(req.URL.Path, "/") == 2
	}
	return false
}
