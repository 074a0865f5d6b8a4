package codecs

// Settings are what every process of a cluster must agree on. `topics apply` writes them once, to the topic settings; a
// process with others refuses to start.
type Settings struct {
	LeaseAgeMillis int64  `avro:"lease_age_millis" json:"leaseAgeMillis"` // the lease's age: a change is acknowledged this long after it was seen
	Partitions     int32  `avro:"partitions" json:"partitions"`           // of every subject-keyed topic
	BusKeyCheck    string `avro:"bus_key_check" json:"busKeyCheck"`       // tells one bus key from another, and nothing about it
	At             int64  `avro:"at" json:"at"`                           // Unix milliseconds
}
