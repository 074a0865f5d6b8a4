package codecs

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Layouts of local times, which RFC 3339 has no text for.
const (
	layoutDate  = "2006-01-02"
	layoutTime  = "15:04:05.999999999"
	layoutLocal = "2006-01-02T15:04:05.999999999"
)

// unit gives how many of a logical type's units a second has, and its text layout; ok for times alone.
func (n *node) unit() (perSecond int64, layout string, ok bool) {
	logical := n.logical
	switch {
	case strings.HasPrefix(logical, "timestamp-"):
		layout = time.RFC3339Nano
	case strings.HasPrefix(logical, "local-timestamp-"):
		layout = layoutLocal
	case strings.HasPrefix(logical, "time-"):
		layout = layoutTime
	default:
		return 0, "", false
	}
	switch {
	case strings.HasSuffix(logical, "-millis"):
		perSecond = 1e3
	case strings.HasSuffix(logical, "-micros"):
		perSecond = 1e6
	default:
		perSecond = 1e9
	}
	return perSecond, layout, true
}

const secondsPerDay = 24 * 60 * 60

// logicalText gives the text of a value of a logical type; not ok where it is written as its bare type.
func (n *node) logicalText(v Value) (string, bool) {
	if perSecond, layout, ok := n.unit(); ok {
		seconds, rest := v.Int/perSecond, v.Int%perSecond
		if rest < 0 {
			seconds, rest = seconds-1, rest+perSecond
		}
		if layout == layoutTime && (seconds < 0 || seconds >= secondsPerDay) {
			return "", false
		}
		return timeText(seconds, rest*(1e9/perSecond), layout)
	}
	switch n.logical {
	case "date":
		return timeText(v.Int*secondsPerDay, 0, layoutDate)
	case "decimal":
		if len(v.Bytes) > maxDecimalBytes {
			return "", false
		}
		return decimalText(v.Bytes, n.scale), true
	case "uuid":
		if n.kind == kindFixed {
			h := hex.EncodeToString(v.Bytes)
			return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], true
		}
	}
	return "", false
}

func timeText(seconds, nanos int64, layout string) (string, bool) {
	t := time.Unix(seconds, nanos).UTC()
	if t.Year() < 0 || t.Year() > 9999 || seconds > 1<<40 || seconds < -1<<40 {
		return "", false
	}
	return t.Format(layout), true
}

// parseTime reads the text of a time as the number of its units; finer parts are cut off. Not ok for other text and for
// what does not fit.
func (n *node) parseTime(text string) (int64, bool) {
	if n.logical == "date" {
		t, err := time.Parse(layoutDate, text)
		if err != nil {
			return 0, false
		}
		return floorDiv(t.Unix(), secondsPerDay), true
	}
	perSecond, layout, ok := n.unit()
	if !ok {
		return 0, false
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return 0, false
	}
	seconds := t.Unix()
	if layout == layoutTime {
		seconds = int64(t.Hour()*3600 + t.Minute()*60 + t.Second())
	}
	total := new(big.Int).Mul(big.NewInt(seconds), big.NewInt(perSecond))
	total.Add(total, big.NewInt(int64(t.Nanosecond())/(1e9/perSecond)))
	return total.Int64(), total.IsInt64()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// maxDecimalBytes bounds a decimal that is written as digits, which takes more than its length in time: it is room for more
// than the 10,000 digits that a decimal may have here, and what is longer stands as its bytes.
const maxDecimalBytes = 8 << 10

// decimalText writes a big-endian two's complement number with its decimals.
func decimalText(b []byte, scale int) string {
	unscaled := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		unscaled.Sub(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	digits := new(big.Int).Abs(unscaled).String()
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale+1-len(digits)) + digits
	}
	if scale > 0 {
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if unscaled.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// parseDecimal reads a number's text as the bytes of a decimal; reason is empty when it is one.
func (n *node) parseDecimal(text string) (b []byte, reason string) {
	mantissa, exponent := text, 0
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		e, err := strconv.Atoi(text[at+1:])
		if err != nil {
			return nil, reasonFormat
		}
		mantissa, exponent = text[:at], e
	}
	whole, decimals, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimPrefix(strings.TrimPrefix(whole, "-"), "+") + decimals
	if digits == "" || strings.Trim(digits, "0123456789") != "" || strings.Contains(decimals, "+") || strings.Contains(decimals, "-") {
		return nil, reasonFormat
	}
	if exponent > 20_000 || exponent < -20_000 || len(digits) > 40_000 {
		return nil, reasonRange
	}
	shift := n.scale + exponent - len(decimals) // powers of ten by which the digits are to be multiplied
	for shift < 0 {
		if digits == "" {
			break
		}
		if digits[len(digits)-1] != '0' {
			return nil, reasonRange
		}
		digits, shift = digits[:len(digits)-1], shift+1
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		digits, shift = "0", 0
	}
	if digits != "0" && len(digits)+shift > n.precision {
		return nil, reasonRange
	}
	unscaled, ok := new(big.Int).SetString(digits+strings.Repeat("0", shift), 10)
	if !ok {
		return nil, reasonFormat
	}
	if strings.HasPrefix(whole, "-") {
		unscaled.Neg(unscaled)
	}
	b = twosComplement(unscaled)
	if n.kind == kindBytes {
		return b, ""
	}
	if len(b) > n.size {
		return nil, reasonRange
	}
	sign := byte(0)
	if unscaled.Sign() < 0 {
		sign = 0xff
	}
	padding := bytes.Repeat([]byte{sign}, n.size-len(b))
	return append(padding, b...), ""
}

// twosComplement gives the shortest big-endian bytes of a number, at least one.
func twosComplement(i *big.Int) []byte {
	if i.Sign() >= 0 {
		b := i.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := new(big.Int).Not(i).BitLen()/8 + 1
	return new(big.Int).Add(i, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).Bytes()
}

// parseUUID reads the text of a uuid.
func parseUUID(text string) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return nil, false
	}
	b, err := hex.DecodeString(text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:])
	return b, err == nil
}
