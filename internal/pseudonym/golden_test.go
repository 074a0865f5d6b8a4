package pseudonym

// Made with the key of testKeys for the test id 010594Y9032, subscriber kela.fi, event birth-1 of https://dvv.fi and
// subscription sub-1; computed a second time in Python, with OpenSSL's AES, from the sentences of this package's comment.
const (
	goldenSubject     = "k1.nfhDvv49MhfGyIGB1BZudw"
	goldenPairwise    = "p1.7N7q-OAXsIze108OXlOeoVcpQAS1fNgW"
	goldenEvent       = "2b26e49b6ac91bb46f8b88e7d08e325a"
	goldenCorrelation = "c1.yy9nwhwVI9ZkBeQT5vocwzqNcrfHF3Q1"
	goldenDelivery    = "98ec0817b26d88aed6f4a1634539bb37"
)
