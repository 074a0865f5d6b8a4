package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// ErrNoAuthorizer says that the cluster lets everybody do everything: no right that is given or taken changes that.
	ErrNoAuthorizer = errors.New("the cluster has no authorizer: whoever reaches it may read and write every topic")
	// ErrNotAllowed says that civicbus's own user may not look at users and rights, or not change them.
	ErrNotAllowed = errors.New("civicbus's own Kafka user (kafka.sasl.user) may not manage users and rights; it must be one of the brokers' super.users, or have Alter, Describe, AlterConfigs and DescribeConfigs on the cluster")
)

// State is what organisations have on the cluster.
type State struct {
	Users  map[string]bool               // who has a SCRAM-SHA-512 password
	Rights map[string][]Right            // of each user, in order, with those that nobody wants
	Quotas map[string]map[string]float64 // of each user by itself, without any of a client id
	// Open are rights that everybody has, which no plan can take from one.
	Open []Right
	// Super are users to whom no right applies.
	Super []string
	// Lenient is true where a topic without any right is open to all (allow.everyone.if.no.acl.found).
	Lenient bool
}

const (
	userPrefix = "User:"
	everybody  = "*" // as a user
	userEntity = "user"
)

// Read asks the cluster. The error is ErrNoAuthorizer where rights mean nothing.
func Read(ctx context.Context, cl *kgo.Client) (*State, error) {
	s := &State{Users: map[string]bool{}, Rights: map[string][]Right{}, Quotas: map[string]map[string]float64{}}
	for _, ask := range []func(context.Context, *kgo.Client) error{s.readRights, s.readUsers, s.readQuotas} {
		if err := ask(ctx, cl); err != nil {
			return nil, err
		}
	}
	return s, s.readBroker(ctx, cl)
}

func (s *State) readRights(ctx context.Context, cl *kgo.Client) error {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAllow
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("list rights: %w", told(err))
	}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			user, ok := strings.CutPrefix(a.Principal, userPrefix)
			if !ok {
				continue
			}
			right := Right{r.ResourceType, r.ResourceName, r.ResourcePatternType, a.Operation, a.Host}
			if user == everybody {
				s.Open = append(s.Open, right)
				continue
			}
			s.Rights[user] = append(s.Rights[user], right)
		}
	}
	for _, rights := range s.Rights {
		slices.SortFunc(rights, compare)
	}
	slices.SortFunc(s.Open, compare)
	return nil
}

func (s *State) readUsers(ctx context.Context, cl *kgo.Client) error {
	users, err := kadm.NewClient(cl).DescribeUserSCRAMs(ctx)
	if err != nil {
		return fmt.Errorf("list users: %w", told(err))
	}
	for _, u := range users {
		for _, c := range u.CredInfos {
			s.Users[u.User] = s.Users[u.User] || c.Mechanism == kadm.ScramSha512
		}
	}
	return nil
}

func (s *State) readQuotas(ctx context.Context, cl *kgo.Client) error {
	all, err := kadm.NewClient(cl).DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{{Type: userEntity, MatchType: kmsg.QuotasMatchTypeAny}})
	if err != nil {
		return fmt.Errorf("list quotas: %w", told(err))
	}
	for _, q := range all {
		if len(q.Entity) != 1 || q.Entity[0].Type != userEntity || q.Entity[0].Name == nil {
			continue
		}
		values := map[string]float64{}
		for _, v := range q.Values {
			values[v.Key] = v.Value
		}
		s.Quotas[*q.Entity[0].Name] = values
	}
	return nil
}

// readBroker asks one broker for what its configuration says of rights. A broker that does not tell is taken to say nothing.
func (s *State) readBroker(ctx context.Context, cl *kgo.Client) error {
	admin := kadm.NewClient(cl)
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	if len(meta.Brokers) == 0 {
		return nil
	}
	configs, err := admin.DescribeBrokerConfigs(ctx, meta.Brokers[0].NodeID)
	if err != nil {
		return fmt.Errorf("describe a broker's configuration: %w", told(err))
	}
	for _, r := range configs {
		for _, c := range r.Configs {
			switch c.Key {
			case "super.users":
				for u := range strings.SplitSeq(c.MaybeValue(), ";") {
					if name, ok := strings.CutPrefix(strings.TrimSpace(u), userPrefix); ok {
						s.Super = append(s.Super, name)
					}
				}
			case "allow.everyone.if.no.acl.found":
				s.Lenient = c.MaybeValue() == "true"
			}
		}
	}
	return nil
}

// told is an error of Kafka's in the words of who has to mend it.
func told(err error) error {
	var auth *kadm.AuthError
	switch {
	case errors.Is(err, kerr.SecurityDisabled):
		return ErrNoAuthorizer
	case errors.Is(err, kerr.ClusterAuthorizationFailed), errors.As(err, &auth):
		return ErrNotAllowed
	}
	return err
}

// word is one of Kafka's upper-case words, for people.
func word(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", " ") }
