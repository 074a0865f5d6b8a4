package access

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	// ErrHasUser says that a user is there already: who has its password need not be the one who asks.
	ErrHasUser = errors.New("the organisation has a Kafka user already; rotate makes a new password, and ends the old one")
	// ErrNoUser says that there is no password to rotate.
	ErrNoUser = errors.New("the organisation has no Kafka user yet; issue makes one")
	// ErrNoAccess says that a user would have no rights.
	ErrNoAccess = errors.New("the organisation has nothing to read or write on Kafka: it needs a subscription that is delivered by Kafka and approved, or an inbox, and must be active")
	// ErrReserved says that the organisation's name is that of a user who may do everything.
	ErrReserved = errors.New("a user of the organisation's name may do everything on the cluster")
)

// Mechanism is how organisations authenticate.
const Mechanism = "SCRAM-SHA-512"

// iterations are the least that Kafka takes (KIP-554), and the embedded broker the only. They slow down guessing, and a
// password of 256 random bits cannot be guessed.
const iterations = 4096

// Issue makes the user of an organisation that has none, with a new password, and gives the password. It is kept nowhere:
// lose it, and only Rotate helps.
func Issue(ctx context.Context, cl *kgo.Client, w Wanted, have *State, own string) (password string, err error) {
	if have.Users[w.Organisation] {
		return "", fmt.Errorf("issue %s: %w", w.Organisation, ErrHasUser)
	}
	return set(ctx, cl, w, have, own)
}

// Rotate gives the user of an organisation a new password. The old one opens no connection any more; one that is open lasts
// until the broker asks anew (connections.max.reauth.ms).
func Rotate(ctx context.Context, cl *kgo.Client, w Wanted, have *State, own string) (password string, err error) {
	if !have.Users[w.Organisation] {
		return "", fmt.Errorf("rotate %s: %w", w.Organisation, ErrNoUser)
	}
	return set(ctx, cl, w, have, own)
}

func set(ctx context.Context, cl *kgo.Client, w Wanted, have *State, own string) (string, error) {
	switch {
	case have.mayDoEverything(w.Organisation, own):
		return "", fmt.Errorf("make the user of %s: %w", w.Organisation, ErrReserved)
	case len(w.Rights) == 0:
		return "", fmt.Errorf("make the user of %s: %w", w.Organisation, ErrNoAccess)
	}
	password := newPassword()
	altered, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: w.Organisation, Mechanism: kadm.ScramSha512, Iterations: iterations, Password: password}})
	if err == nil {
		err = altered[w.Organisation].Err
	}
	if err != nil {
		return "", fmt.Errorf("make the user of %s: %w", w.Organisation, told(err))
	}
	return password, known(ctx, cl, w.Organisation)
}

// known waits until the broker that is asked knows the user: others learn of it about as fast.
func known(ctx context.Context, cl *kgo.Client, user string) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		users, err := kadm.NewClient(cl).DescribeUserSCRAMs(ctx, user)
		if err == nil && users[user].Err == nil && len(users[user].CredInfos) > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, kerr.ResourceNotFound) && ctx.Err() == nil && !kerr.IsRetriable(err) {
			return fmt.Errorf("look up the user %s: %w", user, told(err))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait until the cluster knows the user %s: %w", user, ctx.Err())
		}
	}
}

// newPassword has 256 random bits, in letters that need no quoting in any file.
func newPassword() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(secret[:])
}
