package admission

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
)

// admittedRecords are the Kafka records of an accepted event.
func admittedRecords(result *Result) []*kgo.Record {
	out := make([]*kgo.Record, len(result.Records))
	for i, rec := range result.Records {
		headers := make([]kgo.RecordHeader, len(rec.Headers))
		for h, header := range rec.Headers {
			headers[h] = kgo.RecordHeader{Key: header.Key, Value: header.Value}
		}
		out[i] = &kgo.Record{Topic: AdmittedTopic, Key: rec.Key, Value: rec.Value, Headers: headers}
	}
	return out
}

// letterRecord is the Kafka record of an event that was not accepted. It is keyed by the life event, where there is one, so
// that what belongs together lies together; the source's own key is dropped, since it may be a national id.
func letterRecord(result *Result, letters *codecs.Record[codecs.DeadLetter]) (*kgo.Record, error) {
	value, err := letters.Encode(result.Letter)
	if err != nil {
		return nil, err
	}
	rec := &kgo.Record{Topic: DeadLettersTopic, Value: value}
	if result.LifeEvent != "" {
		rec.Key = []byte(result.LifeEvent)
	}
	return rec, nil
}
