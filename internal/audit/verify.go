package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Check says how to verify.
type Check struct {
	Keys   *Keys              // nil: MACs are not checked, by a third party
	Public ed25519.PublicKey  // that heads are signed with; nil: that of Keys, or, without them, no head is used
	Heads  []codecs.AuditHead // kept outside the broker; each must be valid under the public key
	Now    time.Time
	// Each is given every entry that is as it had to be, in the order of each chain. nil: nobody.
	Each func(*codecs.AuditEntry)
	// Progress is told how many offsets of how many are behind. nil: nobody.
	Progress func(done, total int64)
}

// ChainState is one chain as it was found.
type ChainState struct {
	Partition int32    `json:"partition"`
	Entries   int64    `json:"entries"` // that were as they had to be
	Last      int64    `json:"last"`    // number of the last of these
	Head      int64    `json:"head"`    // the highest number that a signed head vouches for; 0: none
	Finding   *Finding `json:"finding,omitempty"`
}

// Result is what a verification found.
type Result struct {
	Chains   []ChainState `json:"chains"`
	Entries  int64        `json:"entries"`
	MACs     bool         `json:"macs"`     // whether MACs were checked
	BadHeads int          `json:"badHeads"` // on the topic, not signed under the public key, and not used
	Gaps     []Gap        `json:"gaps"`     // on record: no finding
	Findings []Finding    `json:"findings"` // empty: all is as it was written, as far as the heads reach
}

// Verify walks every chain. An error is that of reading; what is wrong with the log is a finding.
func (l *Log) Verify(ctx context.Context, check Check) (Result, error) {
	if check.Public == nil && check.Keys != nil {
		check.Public = check.Keys.PublicKey()
	}
	result := Result{MACs: check.Keys != nil, Findings: []Finding{}}
	heads, err := l.heads(ctx, &check, &result)
	if err != nil {
		return result, err
	}
	spans, err := l.spans(ctx, topology.AuditLog.Name) // after the heads, so that none vouches for what came later
	if err != nil {
		return result, err
	}
	chains := map[int32]*Chain{}
	counts := map[int32]int64{}
	expired := check.Now.Add(-topology.AuditLog.Keep).UnixMilli()
	for p := range spans {
		gone := int64(0)
		for _, h := range heads {
			if h.Partition == p && h.At <= expired {
				gone = max(gone, h.Number)
			}
		}
		chains[p] = NewChain(p, check.Keys, l.records.AuditEntry.Decode, heads, gone)
	}
	cover := NewCover()
	err = l.scan(ctx, topology.AuditLog.Name, spans, func(r *kgo.Record) {
		if e := chains[r.Partition].Add(r.Offset, r.Value); e != nil {
			counts[r.Partition]++
			cover.Add(e)
			if check.Each != nil {
				check.Each(e)
			}
		}
	}, check.Progress)
	if err != nil {
		return result, err
	}
	result.Gaps = append([]Gap{}, cover.Gaps...)
	whole := true
	for p, c := range chains {
		f := c.Finding()
		result.Chains = append(result.Chains, ChainState{p, counts[p], c.Number, c.last, f})
		result.Entries += counts[p]
		whole = whole && f == nil
	}
	slices.SortFunc(result.Chains, func(a, b ChainState) int { return int(a.Partition - b.Partition) })
	for _, c := range result.Chains {
		if c.Finding != nil {
			result.Findings = append(result.Findings, *c.Finding)
		}
	}
	for _, h := range heads {
		if _, ok := chains[h.Partition]; !ok {
			result.Findings = append(result.Findings, Finding{Kind: CutOff, Partition: h.Partition, Number: 1, Offset: -1, Detail: "the log has no such partition, and a signed head vouches for it"})
			whole = false
			break
		}
	}
	if whole { // a chain that breaks off leaves out decisions of its own: one finding is enough
		result.Findings = append(result.Findings, cover.Findings()...)
	}
	return result, nil
}

// heads are those given and those on the topic, all verified. Without a public key there are none.
func (l *Log) heads(ctx context.Context, check *Check, result *Result) ([]codecs.AuditHead, error) {
	if check.Public == nil {
		return nil, nil
	}
	var all []codecs.AuditHead
	for i := range check.Heads {
		if err := CheckHead(&check.Heads[i], check.Public); err != nil {
			return nil, err
		}
		all = append(all, check.Heads[i])
	}
	onTopic, bad, err := l.signed(ctx, check.Public)
	result.BadHeads = bad
	return append(all, onTopic...), err
}

// signed reads the heads on audit-heads that are valid under the public key, and counts the others.
func (l *Log) signed(ctx context.Context, public ed25519.PublicKey) (heads []codecs.AuditHead, bad int, err error) {
	spans, err := l.spans(ctx, topology.AuditHeads.Name)
	if err != nil {
		return nil, 0, err
	}
	err = l.scan(ctx, topology.AuditHeads.Name, spans, func(r *kgo.Record) {
		h, err := l.records.AuditHead.Decode(r.Value)
		if err != nil || CheckHead(&h, public) != nil {
			bad++
			return
		}
		heads = append(heads, h)
	}, nil)
	return heads, bad, err
}

// Heads are the newest valid head of each partition, to be kept outside the broker.
func (l *Log) Heads(ctx context.Context, public ed25519.PublicKey) ([]codecs.AuditHead, error) {
	all, _, err := l.signed(ctx, public)
	if err != nil {
		return nil, err
	}
	newest := Newest(all)
	out := make([]codecs.AuditHead, 0, len(newest))
	for _, h := range newest {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b codecs.AuditHead) int { return int(a.Partition - b.Partition) })
	return out, nil
}

// Newest picks the head with the highest number of each partition.
func Newest(heads []codecs.AuditHead) map[int32]codecs.AuditHead {
	newest := map[int32]codecs.AuditHead{}
	for _, h := range heads {
		if h.Number > newest[h.Partition].Number {
			newest[h.Partition] = h
		}
	}
	return newest
}

// ReadHeads reads heads as Heads are written to a file: one JSON object a line.
func ReadHeads(r io.Reader) ([]codecs.AuditHead, error) {
	var heads []codecs.AuditHead
	s := bufio.NewScanner(r)
	for line := 1; s.Scan(); line++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		var h codecs.AuditHead
		if err := json.Unmarshal(s.Bytes(), &h); err != nil {
			return nil, fmt.Errorf("read heads, line %d: %w", line, err)
		}
		heads = append(heads, h)
	}
	return heads, s.Err()
}
