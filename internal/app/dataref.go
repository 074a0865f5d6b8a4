package app

import (
	"civicbus/internal/gateway/receive"
	"civicbus/internal/pseudonym"
)

// dataRef is router.Env.DataRef. Below which address the gateway is reached is this process's own setting: without it the
// references are relative, and whoever has them knows where the gateway is.
func dataRef(busKey []byte, public string) (func(dst []byte, subscription string, to *pseudonym.Reference) []byte, error) {
	references, err := pseudonym.NewReferences(busKey)
	if err != nil {
		return nil, err
	}
	address := receive.DataRef(public)
	return func(dst []byte, subscription string, to *pseudonym.Reference) []byte {
		return append(dst, address(subscription, string(references.Append(nil, subscription, to)))...)
	}, nil
}
