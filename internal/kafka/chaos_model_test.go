//go:build synctests

package kafka

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// poison is added to the versions of rules that are written and then aborted: nobody may ever see one.
const poison = 1_000_000

// model knows what must come out: for each key its inputs in order, counted from 1, each decided on a rule (looked up) and a
// grant (joined) at least as new as the newest ones acknowledged at that moment. What breaks it is written down in wrong.
type model struct {
	age   time.Duration
	began time.Time

	mu      sync.Mutex
	inputs  map[string][]string  // by key, in order
	pending map[string]time.Time // not yet seen in the output
	got     map[string]int       // outputs of each key
	rules   map[string][]seen    // by key of the table, in order
	outputs int
	wrong   []string
}

// seen is when a read_committed reader of the table itself first saw a version.
type seen struct {
	version int
	at      time.Time
}

func newModel(age time.Duration) *model {
	return &model{age: age, began: time.Now(), inputs: map[string][]string{}, pending: map[string]time.Time{}, got: map[string]int{}, rules: map[string][]seen{}}
}

func (m *model) breach(format string, args ...any) {
	if len(m.wrong) < 20 {
		m.wrong = append(m.wrong, fmt.Sprintf("%s %s", time.Since(m.began).Round(time.Millisecond), fmt.Sprintf(format, args...)))
	}
}

// publish notes an input before it is sent.
func (m *model) publish(key, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inputs[key] = append(m.inputs[key], id)
	m.pending[id] = time.Now()
}

// rule notes that a read_committed reader of a table saw a version.
func (m *model) rule(key string, v int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v >= poison {
		m.breach("an aborted version of %s was read: %d", key, v)
		return
	}
	m.rules[key] = append(m.rules[key], seen{v, time.Now()})
}

// acknowledged is the newest version of a key that was acknowledged at t.
func (m *model) acknowledged(key string, t time.Time) (v int) {
	for _, s := range m.rules[key] {
		if !s.at.Add(m.age).After(t) {
			v = max(v, s.version)
		}
	}
	return v
}

// output checks one committed output: "id count rule grant decided node".
func (m *model) output(key, value string, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var id, node string
	var n, rule, grant int
	var nanos int64
	if _, err := fmt.Sscanf(value, "%s %d %d %d %d %s", &id, &n, &rule, &grant, &nanos, &node); err != nil {
		m.breach("output %q: %v", value, err)
		return
	}
	m.outputs++
	delete(m.pending, id)
	m.got[key]++
	if n != m.got[key] {
		m.breach("key %s: count %d of %s is output %d of its key (offset %d, node %s)", key, n, id, m.got[key], offset, node)
		m.got[key] = n
	}
	if want := m.inputs[key]; n > len(want) || want[n-1] != id {
		m.breach("key %s: count %d is given to %s", key, n, id)
	}
	decided := time.Unix(0, nanos)
	for name, used := range map[string]int{"rule": rule, key: grant} {
		if used >= poison || used < m.acknowledged(name, decided) {
			m.breach("%s was decided on version %d of %s at %s, when %d was acknowledged (node %s)", id, used, name, decided.Sub(m.began).Round(time.Millisecond), m.acknowledged(name, decided), node)
		}
	}
}

// oldest is the age of the oldest input that has no output yet.
func (m *model) oldest() (age time.Duration, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, at := range m.pending {
		if a := time.Since(at); a > age {
			age, id = a, i
		}
	}
	return age, id
}

func (m *model) counts() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := map[string]int{}
	for k, ids := range m.inputs {
		c[k] = len(ids)
	}
	return c
}

func (m *model) report() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.wrong, "\n")
}

func (m *model) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breach(format, args...)
}

func (m *model) broken() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.wrong) > 0
}
