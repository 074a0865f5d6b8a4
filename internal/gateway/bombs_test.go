package gateway_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"
)

// bombs: many requests at once, each made to take much memory or for ever. Each is refused, the memory that all take together is
// bounded, and whoever asks properly is served meanwhile.
func bombs(b *bus) {
	zip := func(n int, text string) string {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		for range n {
			_, _ = io.WriteString(z, text)
		}
		_ = z.Close()
		return out.String()
	}
	const structured, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
	begin := `{"specversion":"1.0","id":"x","source":"https://hus.fi","type":"fi.dvv.person.birth","data":`
	kinds := []struct{ media, body, encoding string }{
		{structured, zip(1024, strings.Repeat(" ", 64<<10)), "gzip"},                                    // 64 MiB
		{batch, zip(2, "["+strings.Repeat("[", 4<<20)), "gzip"},                                         // 8 MiB of depth
		{structured, begin + strings.Repeat(`{"a":`, 500_000) + "1", ""},                                // depth in the data
		{structured, begin + `{"numberOfChildren": ` + strings.Repeat("9", 1<<20) + `e999999999}}`, ""}, // a number
		{structured, begin + `{"numberOfChildren": 1e-999999999}}`, ""},
		{batch, "[" + strings.Repeat("{},", 1<<20) + "{}]", ""},
		{structured, begin + `{"children":[` + strings.Repeat("1,", 2_000_000) + `1]}}`, ""}, // fifty times its size when it is read
	}
	stop, peak := b.watchHeap()
	for range 5 { // connections that send nothing more are in nobody's way
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.base, "http://"))
		b.must(err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "POST /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 8000000\r\n\r\n{", b.token("hus.fi"), structured)
		b.must(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait() // none outlives the test, however it ends
	for i := range 6 * len(kinds) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			k := kinds[i%len(kinds)]
			headers := []string{"Content-Type", k.media}
			if k.encoding != "" {
				headers = append(headers, "Content-Encoding", k.encoding)
			}
			switch a := b.ask("hus.fi", "POST", "/api/events", k.body, headers...); a.status {
			case http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable:
			default:
				b.t.Errorf("bomb %d: %d %.300s", i%len(kinds), a.status, a.text)
			}
		}()
	}
	for range 20 { // where the bombs leave no processor, the tables are not confirmed for a moment
		b.eventually("another caller is served meanwhile", func() bool {
			a := b.ask("kela.fi", "GET", "/api/subscriptions/sub-kela-birth-001", "")
			if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
				b.t.Fatalf("%d %s", a.status, a.text)
			}
			return a.status == http.StatusOK
		})
	}
	wg.Wait()
	close(stop)
	const bound = 768 << 20 // 256 MiB of bodies, as much for reading them, and what the collector has not seen yet
	if grown := <-peak; grown > bound {
		b.t.Errorf("the heap grew by %d MiB", grown>>20)
	} else {
		b.t.Logf("the heap grew by %d MiB", grown>>20)
	}
}

// watchHeap measures by how much the heap grows, until stop is closed.
func (b *bus) watchHeap() (stop chan struct{}, peak chan uint64) {
	stop, peak = make(chan struct{}), make(chan uint64, 1)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, most := m.HeapAlloc, m.HeapAlloc
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			case <-stop:
				peak <- most - base
				return
			}
		}
	}()
	return stop, peak
}
