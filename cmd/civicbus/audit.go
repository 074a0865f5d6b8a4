package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/audit"
	"civicbus/internal/config"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func newAudit() *cobra.Command {
	return group("audit", "Prove the audit log, and read it", newAuditVerify(), newAuditShow(), newAuditReport(), newAuditHeads())
}

// auditor is what the audit commands work with. Close both.
type auditor struct {
	admin *admin.Client
	log   *audit.Log
	keys  *audit.Keys // nil: no audit key is at hand
}

func (a *auditor) Close() {
	a.log.Close()
	a.admin.Close()
}

// errNoAuditKey says that the command needs the audit key.
var errNoAuditKey = errors.New("no audit key is configured: keys.audit_key_file names its file")

// openAudit connects to the cluster and reads the audit key, if one is configured or the cluster is embedded.
func openAudit(cmd *cobra.Command) (*auditor, error) {
	cfg, err := load(cmd, false)
	if err != nil {
		return nil, err
	}
	reg, err := registry(cfg)
	if err != nil {
		return nil, err
	}
	registry, err := codecs.NewRegistry(reg)
	if err != nil {
		return nil, err
	}
	records := codecs.NewRecords()
	if err := records.Bind(cmd.Context(), registry); err != nil {
		return nil, err
	}
	a := &auditor{}
	if a.admin, err = dial(cmd); err != nil {
		return nil, err
	}
	if a.keys, err = auditKeys(cmd, cfg, a.admin); err == nil {
		a.log, err = audit.Open(connection(cfg, nil), records)
	}
	if err != nil {
		a.admin.Close()
		return nil, err
	}
	return a, nil
}

func auditKeys(cmd *cobra.Command, cfg *config.Config, c *admin.Client) (*audit.Keys, error) {
	embedded, err := c.Embedded(cmd.Context())
	if err != nil {
		return nil, err
	}
	var bus []byte
	if embedded {
		if bus, err = busKey(cfg); err != nil {
			return nil, fmt.Errorf("read the bus key: %w", err)
		}
	}
	key, err := auditKey(cfg, bus, embedded)
	if err != nil || key == nil {
		return nil, err
	}
	return audit.NewKeys(key)
}

// checkFlags add what a verification is made with.
func checkFlags(cmd *cobra.Command) {
	cmd.Flags().StringSlice("head", nil, "files of signed heads, kept away from the brokers (civicbus audit heads writes one)")
	cmd.Flags().String("public-key", "", "key that heads are signed with, in hexadecimal, for who has no audit key")
}

// check is the verification that the flags ask for.
func check(cmd *cobra.Command, a *auditor) (audit.Check, error) {
	c := audit.Check{Keys: a.keys, Now: time.Now()}
	public, _ := cmd.Flags().GetString("public-key") // checkFlags added these
	files, _ := cmd.Flags().GetStringSlice("head")
	if public != "" {
		key, err := hex.DecodeString(public)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return c, usage(fmt.Errorf("--public-key: want %d hexadecimal digits", 2*ed25519.PublicKeySize))
		}
		c.Public = key
	}
	for _, file := range files {
		f, err := open(cmd, file)
		if err != nil {
			return c, err
		}
		heads, err := audit.ReadHeads(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return c, err
		}
		c.Heads = append(c.Heads, heads...)
	}
	if len(c.Heads) > 0 && c.Public == nil && c.Keys == nil {
		return c, usage(errors.New("--head: heads are worth nothing without the audit key or --public-key to check them with"))
	}
	return c, nil
}

func newAuditVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify [--head FILE]...", Short: "Walk every chain of the audit log and name the first entry that is not as it was written", Args: args(cobra.NoArgs),
		Long: "Walk every chain of the audit log and name the first entry that was changed, removed, inserted, reordered or cut off the end,\n" +
			"and show that no record of an event stream is without its decision. Signed heads tell how far a chain had come: those on the\n" +
			"topic, and those in files, which an intruder on the brokers cannot reach. Without the audit key only the hashes and, with\n" +
			"--public-key, the heads are checked. It ends with 1 when something is found.",
		Example: "  civicbus audit heads > heads.jsonl\n  civicbus audit verify --head heads.jsonl",
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := verify(cmd, nil)
			if err != nil {
				return err
			}
			if format(cmd) == "json" {
				err = printJSON(cmd.OutOrStdout(), result)
			} else {
				err = printResult(cmd, result)
			}
			if err == nil && len(result.Findings) > 0 {
				return refused()
			}
			return err
		},
	}
	checkFlags(cmd)
	formatFlag(cmd, "table", "json")
	return cmd
}

// verify verifies the log and hands on each entry that is as it has to be.
func verify(cmd *cobra.Command, each func(*codecs.AuditEntry)) (audit.Result, error) {
	a, err := openAudit(cmd)
	if err != nil {
		return audit.Result{}, err
	}
	defer a.Close()
	c, err := check(cmd, a)
	if err != nil {
		return audit.Result{}, err
	}
	c.Each = each
	var end func()
	c.Progress, end = offsets(cmd, "verifying")
	defer end()
	return a.log.Verify(cmd.Context(), c)
}

// offsets shows how many offsets are behind, their rate and the time left, on a terminal alone.
func offsets(cmd *cobra.Command, what string) (step func(done, total int64), end func()) {
	stderr, ok := cmd.ErrOrStderr().(*os.File)
	if !ok {
		return nil, func() {}
	}
	if info, err := stderr.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
			if bar == nil {
				bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
					progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
			}
			_ = bar.Set64(done) // a bar that cannot be drawn is not worth an end
		}, func() {
			if bar != nil {
				_ = bar.Finish()
			}
		}
}

func printResult(cmd *cobra.Command, r audit.Result) error {
	var rows [][]any
	for _, c := range r.Chains {
		state := "whole"
		if c.Finding != nil {
			state = c.Finding.Kind
		}
		rows = append(rows, []any{c.Partition, c.Entries, c.Last, c.Head, state})
	}
	if err := printTable(cmd.OutOrStdout(), []string{"chain", "entries", "last", "signed up to", "state"}, rows); err != nil {
		return err
	}
	if !r.MACs {
		note(cmd, "no audit key: hashes and heads were checked, MACs were not")
	}
	if r.BadHeads > 0 {
		note(cmd, "%d heads on the topic are not signed with the key and were not used", r.BadHeads)
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(cmd.OutOrStdout(), "gap on record: group %s, %s/%d, from offset %d to before %d (%s), put there at %s\n", g.Group, g.Topic, g.Partition, g.From, g.To, g.Reason, g.At.Format(time.RFC3339))
	}
	for _, f := range r.Findings {
		fmt.Fprintln(cmd.OutOrStdout(), f)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%d entries, all as they were written\n", r.Entries)
	}
	return nil
}

// shown is one verdict, or one command, as audit show prints it.
type shown struct {
	At         time.Time `json:"at"`
	By         string    `json:"by"`   // router, delivery, access, replay, profile, command
	What       string    `json:"what"` // event type, or the command's kind
	Role       string    `json:"role,omitempty"`
	Subscriber string    `json:"subscriber,omitempty"`
	Purpose    string    `json:"purpose,omitempty"`
	Verdict    string    `json:"verdict"` // permit or deny; else the outcome
	Basis      string    `json:"basis,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Reference  string    `json:"reference,omitempty"`
	Delivery   string    `json:"delivery,omitempty"`
	Number     int64     `json:"number"` // of the entry in its chain
}

func newAuditShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show [-f FILE]", Short: "Show who got what about a subject, when, for which purpose, on which basis", Args: args(cobra.NoArgs),
		Long: "Show every verdict about a subject, and every command that changed what they allow, the newest first. The subject, scheme:id, is\n" +
			"read from a file or standard input. Each entry shown is checked against the audit key. After an erasure nothing is found.",
		Example: "  civicbus audit show < subject.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := subject(cmd)
			if err != nil {
				return err
			}
			a, err := openAudit(cmd)
			if err != nil {
				return err
			}
			defer a.Close()
			if a.keys == nil {
				return usage(errNoAuditKey)
			}
			key, err := a.admin.Subject(cmd.Context(), who)
			if err != nil {
				return err
			}
			limit, _ := cmd.Flags().GetInt("number") // added below
			lines := []shown{}
			if err := a.log.Walk(cmd.Context(), a.keys, key, func(e *codecs.AuditEntry) bool {
				lines = append(lines, show(e)...)
				return limit == 0 || len(lines) < limit
			}); err != nil {
				return err
			}
			if limit > 0 {
				lines = lines[:min(limit, len(lines))]
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), lines)
			}
			var rows [][]any
			for _, s := range lines {
				rows = append(rows, []any{s.At.Format(time.RFC3339), s.By, s.What, s.Subscriber, s.Purpose, s.Verdict, s.Basis, s.Reason, s.Reference})
			}
			return printTable(cmd.OutOrStdout(), []string{"at", "by", "what", "subscriber", "purpose", "verdict", "basis", "reason", "reference"}, rows)
		},
	}
	cmd.Flags().IntP("number", "n", 0, "lines at most; 0: all")
	subjectFlag(cmd)
	formatFlag(cmd, "table", "json")
	return cmd
}

// show gives an entry's lines: one for each verdict, or one for what it says as a whole. That an event was stamped and passed on is no line.
func show(e *codecs.AuditEntry) []shown {
	line := shown{At: time.UnixMilli(e.At).UTC(), By: e.Kind, What: e.EventType, Role: e.Role, Verdict: e.Outcome, Reason: e.Reason, Number: e.Number}
	if e.CommandKind != "" {
		line.What = e.CommandKind
	}
	var lines []shown
	for _, v := range e.Verdicts {
		l := line
		l.Subscriber, l.Purpose, l.Verdict, l.Basis, l.Reason, l.Delivery = v.Subscriber, v.Purpose, "deny", v.Basis, v.Reason, v.DeliveryID
		if v.Permit {
			l.Verdict = "permit"
		}
		if v.Reference != "" {
			l.Reference = fmt.Sprintf("%s v%d", v.Reference, v.ReferenceVersion)
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 && (e.Kind != "router" || e.Outcome != "decided") {
		lines = append(lines, line)
	}
	return lines
}

func newAuditReport() *cobra.Command {
	cmd := &cobra.Command{
		Use: "report", Short: "Add up, per subscriber and purpose, what was given on which basis, and what was denied and why", Args: args(cobra.NoArgs),
		Long: "Add up the verdicts in the audit log per subscriber and purpose: the register of processing, and the usage report. The log is\n" +
			"verified on the way; what stands behind a finding is not counted, and the command then ends with 1.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			uses := audit.NewUses()
			result, err := verify(cmd, uses.Add)
			if err != nil {
				return err
			}
			all := uses.List()
			if format(cmd) == "json" {
				err = printJSON(cmd.OutOrStdout(), all)
			} else {
				var rows [][]any
				for _, u := range all {
					rows = append(rows, []any{u.Subscriber, u.Purpose, u.Kind, u.Permitted, counts(u.Bases), sum(u.Denied), counts(u.Denied), u.Last.Format(time.DateOnly)})
				}
				err = printTable(cmd.OutOrStdout(), []string{"subscriber", "purpose", "by", "permitted", "on the basis of", "denied", "because", "last"}, rows)
			}
			for _, f := range result.Findings {
				note(cmd, "%s", f)
			}
			if err == nil && len(result.Findings) > 0 {
				return refused()
			}
			return err
		},
	}
	checkFlags(cmd)
	formatFlag(cmd, "table", "json")
	return cmd
}

func sum(m map[string]int64) (n int64) {
	for _, c := range m {
		n += c
	}
	return n
}

// counts is a map of counts as text, by name.
func counts(m map[string]int64) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(all, ", ")
}

func newAuditHeads() *cobra.Command {
	cmd := &cobra.Command{
		Use: "heads", Short: "Print the newest signed head of each chain, one JSON object a line, to be kept away from the brokers", Args: args(cobra.NoArgs),
		Long: "Print the newest signed head of each chain, one JSON object a line. Kept where no one can change it, it later proves that nothing\n" +
			"before it was cut off or written anew. The public key that third parties check heads with goes to standard error.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := openAudit(cmd)
			if err != nil {
				return err
			}
			defer a.Close()
			if a.keys == nil {
				return usage(errNoAuditKey)
			}
			heads, err := a.log.Heads(cmd.Context(), a.keys.PublicKey())
			if err != nil {
				return err
			}
			for _, h := range heads {
				if err := printLine(cmd.OutOrStdout(), h); err != nil {
					return err
				}
			}
			note(cmd, "public key: %s", hex.EncodeToString(a.keys.PublicKey()))
			return nil
		},
	}
	return cmd
}
