package pseudonym

// Made with the key of testKeys for the test id 010594Y9032, subscriber kela.fi, event birth-1 of https://dvv.fi and
// subscription sub-1; computed a second time in Python, with OpenSSL's AES and CMAC, from the sentences of this package's comment.
const (
	goldenSubject     = "k1.nfhDvv49MhfGyIGB1BZudw"
	goldenPairwise    = "p1.7N7q-OAXsIze108OXlOeoUdimsDhOH3I"
	goldenEvent       = "2b26e49b6ac91bb46f8b88e7d08e325a"
	goldenCorrelation = "c1.yy9nwhwVI9ZkBeQT5vocw2ApFarFH3Lh"
	goldenDelivery    = "101e6b3b521810fd095dba79085aef35"
)
