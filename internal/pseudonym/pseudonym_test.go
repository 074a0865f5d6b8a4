package pseudonym

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func testKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := NewKeys([]byte("an example bus key of 32+ bytes, never used"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestGolden pins every text form: a change here is a migration of every topic.
func TestGolden(t *testing.T) {
	k := testKeys(t)
	subject := k.Subject(Hetu, "010594Y9032")
	sealed, err := k.For("kela.fi").Seal(subject)
	if err != nil {
		t.Fatal(err)
	}
	event := k.LifeEvent("https://dvv.fi", "birth-1")
	for _, c := range []struct{ what, got, want string }{
		{"subject", subject, goldenSubject},
		{"pairwise", sealed, goldenPairwise},
		{"life event", event, goldenEvent},
		{"correlation", k.For("kela.fi").SealID(event), goldenCorrelation},
		{"delivery", k.Delivery("https://dvv.fi", "birth-1", subject, "sub-1"), goldenDelivery},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
}

// TestCMAC holds it against the published examples of whole blocks: RFC 4493 section 4 (128 bits), NIST SP 800-38B D.3 (256).
func TestCMAC(t *testing.T) {
	const one, four = "6bc1bee22e409f96e93d7e117393172a", "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	decode := func(text string) []byte {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, test := range []struct{ key, message, want string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", one, "070a16b46b4d4144f79bdd9dd04a287c"},
		{"2b7e151628aed2a6abf7158809cf4f3c", four, "51f0bebf7e3b9d92fc49741779363cfe"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", one, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", four, "e1992190549f6ed5696a2c056c315410"},
	} {
		c, m := newCMAC(decode(test.key)), decode(test.message)
		var w chain
		for ; len(m) > 16; m = m[16:] {
			c.absorb(&w, (*[16]byte)(m))
		}
		if c.finish(&w, (*[16]byte)(m)); hex.EncodeToString(w.sum[:]) != test.want {
			t.Errorf("key of %d bytes, message of %d: %x, want %s", len(test.key)/2, len(test.message)/2, w.sum, test.want)
		}
	}
}

// TestSubjectIsTheDocumentedHash computes the design's sentence by hand: HMAC-SHA256(bus key, scheme ':' canonical id).
func TestSubjectIsTheDocumentedHash(t *testing.T) {
	secret := []byte(strings.Repeat("s", MinSecretBytes))
	k, err := NewKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		scheme := rapid.StringMatching(`[a-z0-9-]{1,32}`).Draw(t, "scheme")
		id := rapid.String().Draw(t, "id")
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(scheme + ":" + id))
		want := "k1." + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
		if got := k.Subject(scheme, id); got != want || !IsSubject(got) {
			t.Fatalf("subject %q, want %q", got, want)
		}
	})
}

func TestNewKeysRefusesShortSecrets(t *testing.T) {
	for _, n := range []int{0, 1, 31} {
		if _, err := NewKeys(make([]byte, n)); !errors.Is(err, ErrShortSecret) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	secret := make([]byte, 32)
	k, err := NewKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	before := k.Subject("x", "1")
	secret[0] = 1
	if k.Subject("x", "1") != before || k.For("a").SealID(strings.Repeat("0", 32)) == "" {
		t.Error("the caller's slice is still in use")
	}
}

// TestPairwise: what is sealed for one opens for it and for nobody else, and looks alike to no two.
func TestPairwise(t *testing.T) {
	k := testKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9.-]{1,20}`), 2, 4, rapid.ID).Draw(t, "subscribers")
		subject := k.Subject("test", rapid.StringN(1, 40, -1).Draw(t, "id"))
		event := k.LifeEvent("s", rapid.String().Draw(t, "event"))
		seen := map[string]bool{}
		for _, name := range names {
			p := k.For(name)
			text, err := p.Seal(subject)
			if err != nil {
				t.Fatal(err)
			}
			appended, err := p.AppendSeal([]byte("x"), subject)
			if err != nil || string(appended) != "x"+text {
				t.Fatalf("appended %q, %v", appended, err)
			}
			if back, err := p.Open(text); err != nil || back != subject {
				t.Fatalf("opened %q, %v", back, err)
			}
			id := p.SealID(event)
			if back, err := p.OpenID(id); err != nil || back != event {
				t.Fatalf("opened id %q, %v", back, err)
			}
			if seen[text] || seen[id] {
				t.Fatal("two subscribers hold the same text")
			}
			seen[text], seen[id] = true, true
			for _, other := range names {
				if other == name {
					continue
				}
				if _, err := k.For(other).Open(text); !errors.Is(err, ErrUnknownSubject) {
					t.Fatalf("foreign pseudonym: %v", err)
				}
			}
			// A correlation id dressed up as a subject is none.
			if _, err := p.Open(PairwisePrefix + id[len(PairwisePrefix):]); !errors.Is(err, ErrUnknownSubject) {
				t.Fatalf("life event passed off as a subject: %v", err)
			}
		}
	})
}

// TestEveryChangedCharacterIsRefused: one text each, no second spelling.
func TestEveryChangedCharacterIsRefused(t *testing.T) {
	p := testKeys(t).For("kela.fi")
	text := goldenPairwise
	for i := range len(text) {
		for c := range 256 {
			if changed := text[:i] + string([]byte{byte(c)}) + text[i+1:]; changed != text {
				if _, err := p.Open(changed); !errors.Is(err, ErrUnknownSubject) {
					t.Fatalf("%q opened", changed)
				}
			}
		}
	}
	for _, bad := range []string{"", "p1.", text + "=", text + "\n", text[:len(text)-1] + "\n", goldenSubject} {
		if _, err := p.Open(bad); !errors.Is(err, ErrUnknownSubject) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestMalformedSubjects(t *testing.T) {
	p := testKeys(t).For("kela.fi")
	last := len(goldenSubject) - 1
	for _, bad := range []string{
		"", "k1.", "k2." + goldenSubject[3:], goldenSubject + "A", goldenSubject[:last], goldenSubject[:last] + "\n",
		goldenSubject[:last] + "B", // padding bits set: a second spelling
		goldenPairwise, "010594Y9032",
	} {
		if _, err := p.Seal(bad); !errors.Is(err, ErrMalformedSubject) {
			t.Errorf("%q: %v", bad, err)
		}
		if IsSubject(bad) {
			t.Errorf("%q taken for a subject", bad)
		}
	}
	for _, bad := range []string{"", "zz", strings.Repeat("g", 32), strings.Repeat("0", 34)} {
		if got := p.SealID(bad); got != "" {
			t.Errorf("%q sealed to %q", bad, got)
		}
	}
}

// TestPartsAreKeptApart: moving a character from one part to the next gives another id.
func TestPartsAreKeptApart(t *testing.T) {
	k := testKeys(t)
	alice, bob := k.Subject("x", "alice"), k.Subject("x", "bob")
	ids := map[string]string{}
	for _, parts := range [][]string{{"ab", "c", alice, "d"}, {"a", "bc", alice, "d"}, {"", "abc", alice, "d"}, {"ab", "", alice, "cd"}, {"ab", "c", bob, "d"}, {"ab", "c", alice, ""}} {
		id := k.Delivery(parts[0], parts[1], parts[2], parts[3])
		if other, dup := ids[id]; dup || len(id) != 32 {
			t.Errorf("%q and %s share an id", parts, other)
		}
		ids[id] = fmt.Sprint(parts)
		if k.LifeEvent(parts[0], parts[1]) == id {
			t.Error("a life event id is a delivery id")
		}
	}
	if id := k.Delivery("a", "b", "alice", "d"); id != "" {
		t.Errorf("a delivery about nobody is %s", id)
	}
	if _, ok := k.DeliveriesOf("not an id", alice); ok {
		t.Error("deliveries of what is no life event")
	}
}

func TestConcurrentUse(t *testing.T) {
	k := testKeys(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				id := fmt.Sprint(i)
				name := fmt.Sprint("org", (g+i)%3)
				subject := k.Subject("x", id)
				text, err := k.For(name).Seal(subject)
				if err != nil {
					t.Error(err)
					return
				}
				if back, err := k.For(name).Open(text); err != nil || back != subject {
					t.Error("not opened", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkSubject(b *testing.B) {
	k := testKeys(b)
	b.ReportAllocs()
	for b.Loop() {
		k.Subject(Hetu, "010594Y9032")
	}
}

func BenchmarkDelivery(b *testing.B) {
	k := testKeys(b)
	b.ReportAllocs()
	for b.Loop() {
		k.Delivery("https://dvv.fi", "birth-1", goldenSubject, "sub-kela-birth-001")
	}
}

func BenchmarkSeal(b *testing.B) {
	p := testKeys(b).For("kela.fi")
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.AppendSeal(dst, goldenSubject); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	p := testKeys(b).For("kela.fi")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Open(goldenPairwise); err != nil {
			b.Fatal(err)
		}
	}
}
