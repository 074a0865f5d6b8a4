package config

import (
	"bytes"
	"hash/crc32"
	"reflect"
	"testing"

	"civicbus/internal/mutant"

	"github.com/knadh/koanf/v2"
)

// FuzzFile: a configuration file that is accepted prints as one that is read as the same configuration.
func FuzzFile(f *testing.F) {
	load := func(text []byte) (*Config, error) {
		c := Defaults(true)
		c.origins = map[string]string{}
		known, merged := settings(c), koanf.New(".")
		err := readText(c, "civicbus.yaml", text, known, merged)
		if err == nil {
			err = apply(c, known, merged)
		}
		if err == nil {
			err = c.Validate()
		}
		c.origins = nil
		return c, err
	}
	mutant.Fuzz(f, 1<<10, func(tb testing.TB, in []byte) bool {
		c, err := load(in)
		if err != nil || crc32.ChecksumIEEE(in)%8 > 0 { // to print all settings takes longer than all else
			return err == nil
		}
		var text bytes.Buffer
		if err := c.Print(&text, false); err != nil {
			tb.Fatal(err)
		}
		again, err := load(text.Bytes())
		if err != nil || !reflect.DeepEqual(c, again) {
			tb.Fatalf("%+v printed as\n%s\nis %+v: %v", c, &text, again, err)
		}
		return true
	}, []byte("kafka:\n  brokers: [a:1, b:2]\n  partitions: 4\nlease: {}\n"), []byte("kafka: &k\n  client_id: x\n"), []byte(`{"kafka":{"brokers":"a:1,b:2"}}`),
		[]byte("engine: {transaction: 20ms}\nhttp:\n  listen: 127.0.0.1:8080\nlog: {level: debug}\nregistry: {url: http://127.0.0.1:8081, timeout: 5s}\n"))
}
