package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/demo"
)

// TestStories tells every story of the example world and compares each verdict and each delivery with what was worked out
// by hand.
func TestStories(t *testing.T) {
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*within)
	defer cancel()
	player, err := demo.Load(ctx, demo.Config{BusKey: b.cfg.BusKey, Admin: admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: b.cfg.BusKey}}, func(string) {})
	b.must(err)
	defer player.Close()
	scenarios, err := examples.Scenarios()
	b.must(err)
	for _, s := range scenarios {
		b.sub(s.Name, func() {
			b.must(player.Play(ctx, []examples.Scenario{s}, func(told demo.Told) {
				for _, f := range told.Faults {
					b.t.Errorf("%s: %s", told.Title, f)
				}
			}))
		})
	}
	b.sub("no national id outside the data", func() {
		ids := b.nationalIDs()
		if len(ids) < 15 {
			b.t.Errorf("the stories have %d national ids: are they found?", len(ids))
		}
		a := b.publish("hus.fi", []byte(`{"specversion":"1.0","id":"`+ids[0]+`","source":"https://hus.fi","type":"fi.dvv.person.birth","data":{"child":{"id":"`+ids[1]+`"}}}`))[0]
		for _, id := range ids {
			if a.Status == admission.Accepted || strings.Contains(fmt.Sprint(a), id) {
				b.t.Errorf("the answer to a bad event: %s, or it holds a national id", a.Status)
			}
		}
		b.noTrace(nil, ids...)
	})
}

// nationalIDs are all that stand in the example world.
func (b *bus) nationalIDs() []string {
	b.t.Helper()
	var ids []string
	b.must(fs.WalkDir(examples.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := examples.FS.ReadFile(path)
		ids = append(ids, regexp.MustCompile(`\b\d{6}[-+A-FU-Y]9\d\d[0-9A-Y]\b`).FindAllString(string(text), -1)...)
		return err
	}))
	slices.Sort(ids)
	return slices.Compact(ids)
}
