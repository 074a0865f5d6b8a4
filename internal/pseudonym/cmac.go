package pseudonym

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// cmac is AES-CMAC (RFC 4493, NIST SP 800-38B) of messages of one or more whole blocks, as all of this package's are; each
// key is for messages of one length. A block costs a sixth of an HMAC, and the router makes sixteen an event. Safe for
// concurrent use.
type cmac struct {
	block  cipher.Block
	subkey [aes.BlockSize]byte // K1 of the RFC
}

// chain is a sum under way; it begins as zeros. Behind cipher.Block's interface the compiler would put one on the heap for each
// call, so callers keep them.
type chain struct{ sum [aes.BlockSize]byte }

func newCMAC(key []byte) cmac {
	c := cmac{block: newBlock(key)}
	l := make([]byte, aes.BlockSize)
	c.block.Encrypt(l, l)
	carry := byte(0)
	for i := len(l) - 1; i >= 0; i-- {
		c.subkey[i], carry = l[i]<<1|carry, l[i]>>7
	}
	c.subkey[len(l)-1] ^= carry * 0x87
	return c
}

// absorb takes a block that is not the message's last.
func (c *cmac) absorb(to *chain, block *[aes.BlockSize]byte) {
	subtle.XORBytes(to.sum[:], to.sum[:], block[:])
	c.block.Encrypt(to.sum[:], to.sum[:])
}

// finish takes the last block and leaves the sum.
func (c *cmac) finish(to *chain, block *[aes.BlockSize]byte) {
	subtle.XORBytes(to.sum[:], to.sum[:], c.subkey[:])
	c.absorb(to, block)
}
