package bench

import (
	"testing"
)

// The benchmark of webhooks runs, small; nothing is asserted on time.
func TestDelivery(t *testing.T) {
	long(t)
	t.Parallel()
	r := runSmall(t, "delivery", 1, 60, 2)
	d := r.Delivery
	if d == nil || d.Lost != 0 || d.Deliveries < 60*(hooksMatching-1) || d.Deliveries > 60*hooksMatching || // without those of the one that is dead by turns
		r.Ours <= 0 || r.Theirs <= 0 {
		t.Errorf("%+v %+v", r, d)
	}
}
