package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Apply carries differences out, in their order, and leaves users who are to be issued. What cannot be done does not keep
// the rest from being done; the error joins what was refused. Doing it twice changes nothing.
func Apply(ctx context.Context, cl *kgo.Client, all []Difference) error {
	return errors.Join(deleteRights(ctx, cl, all), deleteUsers(ctx, cl, all), createRights(ctx, cl, all), alterQuotas(ctx, cl, all))
}

func chosen(all []Difference, what string, changes ...string) []Difference {
	var some []Difference
	for _, d := range all {
		for _, c := range changes {
			if d.What == what && d.Change == c {
				some = append(some, d)
			}
		}
	}
	return some
}

// atOnce bounds the entries of one request, far below what a broker takes.
const atOnce = 500

// chunks calls do with at most atOnce differences at a time.
func chunks(all []Difference, do func([]Difference) error) error {
	var errs []error
	for len(all) > 0 {
		n := min(len(all), atOnce)
		errs = append(errs, do(all[:n]))
		all = all[n:]
	}
	return errors.Join(errs...)
}

func deleteRights(ctx context.Context, cl *kgo.Client, all []Difference) error {
	return chunks(chosen(all, OfRight, Delete), func(some []Difference) error {
		req := kmsg.NewPtrDeleteACLsRequest()
		for _, d := range some {
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourceName, f.ResourcePatternType = d.right.Resource, &d.right.Name, d.right.Pattern
			f.Principal, f.Host = kmsg.StringPtr(userPrefix+d.Organisation), &d.right.Host
			f.Operation, f.PermissionType = d.right.Operation, kmsg.ACLPermissionTypeAllow
			req.Filters = append(req.Filters, f)
		}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return fmt.Errorf("delete rights: %w", told(err))
		}
		var errs []error
		for i, r := range resp.Results {
			err := kerr.ErrorForCode(r.ErrorCode)
			for _, m := range r.MatchingACLs {
				err = errors.Join(err, kerr.ErrorForCode(m.ErrorCode))
			}
			if err != nil && i < len(some) {
				errs = append(errs, fmt.Errorf("%s: %w", some[i], told(err)))
			}
		}
		return errors.Join(errs...)
	})
}

func createRights(ctx context.Context, cl *kgo.Client, all []Difference) error {
	return chunks(chosen(all, OfRight, Create), func(some []Difference) error {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, d := range some {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourceName, c.ResourcePatternType = d.right.Resource, d.right.Name, d.right.Pattern
			c.Principal, c.Host = userPrefix+d.Organisation, d.right.Host
			c.Operation, c.PermissionType = d.right.Operation, kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, c)
		}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return fmt.Errorf("create rights: %w", told(err))
		}
		var errs []error
		for i, r := range resp.Results {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil && i < len(some) {
				errs = append(errs, fmt.Errorf("%s: %w", some[i], told(err)))
			}
		}
		return errors.Join(errs...)
	})
}

func deleteUsers(ctx context.Context, cl *kgo.Client, all []Difference) error {
	return chunks(chosen(all, OfUser, Delete), func(some []Difference) error {
		var users []kadm.DeleteSCRAM
		for _, d := range some {
			users = append(users, kadm.DeleteSCRAM{User: d.Organisation, Mechanism: kadm.ScramSha512})
		}
		altered, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, users, nil)
		if err != nil {
			return fmt.Errorf("delete users: %w", told(err))
		}
		var errs []error
		for _, a := range altered.Sorted() {
			if a.Err != nil && !errors.Is(a.Err, kerr.ResourceNotFound) { // another process was faster
				errs = append(errs, fmt.Errorf("delete user %s: %w", a.User, told(a.Err)))
			}
		}
		return errors.Join(errs...)
	})
}

func alterQuotas(ctx context.Context, cl *kgo.Client, all []Difference) error {
	return chunks(chosen(all, OfQuota, Create, Change, Delete), func(some []Difference) error {
		var entries []kadm.AlterClientQuotaEntry
		at := map[string]int{}
		for _, d := range some {
			op := kadm.AlterClientQuotaOp{Key: d.key, Value: d.value, Remove: d.Change == Delete}
			i, known := at[d.Organisation] // Kafka refuses a request that names a user twice
			if !known {
				i, at[d.Organisation] = len(entries), len(entries)
				entries = append(entries, kadm.AlterClientQuotaEntry{Entity: kadm.ClientQuotaEntity{{Type: userEntity, Name: &d.Organisation}}})
			}
			entries[i].Ops = append(entries[i].Ops, op)
		}
		altered, err := kadm.NewClient(cl).AlterClientQuotas(ctx, entries)
		if err != nil {
			return fmt.Errorf("set quotas: %w", told(err))
		}
		var errs []error
		for _, a := range altered {
			if a.Err != nil {
				errs = append(errs, fmt.Errorf("set the quotas of %s: %w", a.Entity, told(a.Err)))
			}
		}
		return errors.Join(errs...)
	})
}

// settleFor bounds how long Settle waits: brokers learn of a change within milliseconds, a slow one within seconds.
const settleFor = 10 * time.Second

// Settle waits until the cluster shows nothing of differences that were carried out any more.
func Settle(ctx context.Context, cl *kgo.Client, wanted map[string]Wanted, own string) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		have, err := Read(ctx, cl)
		if err != nil {
			return err
		}
		left := Compare(wanted, have, own).todo()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait until the cluster shows what it was told, %d are left, %s first: %w", len(left), left[0], ctx.Err())
		}
	}
}

// todo are the differences that Apply carries out.
func (p Plan) todo() []Difference {
	var all []Difference
	for _, d := range p.Differences {
		if d.Change != ToIssue {
			all = append(all, d)
		}
	}
	return all
}
