// Package verdict decides which subscriptions see an event, on which legal basis, and which fields of it.
//
// It is pure: no Kafka, no registry, no clock but its arguments, no state outside a Snapshot. The router, the webhook
// deliverer, the gateway and replay all decide here, so that there is one rule.
//
// Its rules:
//   - The precedence of decide.go is the law; the first step that denies gives the reason, from the closed list of reasons.go.
//   - Unknown means no. A filter is three-valued, and only what is certainly true matches: an absent field, a null, a
//     composite, or a field that this delivery may not carry, is unknown, and so is its negation.
//   - A filter sees what its delivery may carry, nothing else; otherwise the arrival itself would tell.
//   - Every interval is half-open, [from, to), and tested at the time that the caller gives.
//   - What is returned is shared and must not be changed: rows, field lists, field sets.
package verdict
