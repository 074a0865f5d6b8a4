package web

// Scopes that a token may have.
const (
	ScopePublish            = "events:publish"        // publish as the organisation
	ScopeSubscriptionsRead  = "subscriptions:read"    // see the organisation's subscriptions; an operator all
	ScopeSubscriptionsWrite = "subscriptions:write"   // make, edit, pause, resume and revoke them
	ScopeApprove            = "subscriptions:approve" // an operator approves what others have asked for
	ScopeReceive            = "events:receive"        // read deliveries, by whichever way
	ScopePersonRead         = "person:read"           // a person sees what is about them
	ScopePersonWrite        = "person:write"          // a person gives and withdraws consent, and objects
)

// Scopes lists them all.
func Scopes() []string {
	return []string{ScopePublish, ScopeSubscriptionsRead, ScopeSubscriptionsWrite, ScopeApprove, ScopeReceive, ScopePersonRead, ScopePersonWrite}
}
