package codecs

// DeliveryRow is a row of delivery-table: the webhook deliveries about one subject that wait. Bounded by MaxWaiting. Key: the
// subject. A subject for whom nothing waits has no row.
type DeliveryRow struct {
	Waiting []WaitingDelivery `avro:"waiting"` // in the order of their input
}

// MaxWaiting is how many deliveries about one subject wait at most.
const MaxWaiting = 64

// WaitingDelivery is one delivery that waits: for its first attempt, for the one before it, or for its next attempt.
type WaitingDelivery struct {
	Offset       int64  `avro:"offset"` // of the record on webhook-deliveries, in the row's own partition
	Subscription string `avro:"subscription"`
	Attempts     int32  `avro:"attempts"` // made so far
	Since        int64  `avro:"since"`    // when it began to wait; all times in Unix milliseconds
	First        int64  `avro:"first"`    // when the first and the last attempt were made; 0: none was
	Last         int64  `avro:"last"`
	Due          int64  `avro:"due"` // no attempt before
}

// DeliveryReport says what became of one waiting delivery; the sender of webhooks tells it to its group. Key: the subject.
type DeliveryReport struct {
	Offset       int64  `avro:"offset"` // names the delivery, with the subscription
	Subscription string `avro:"subscription"`
	Subscriber   string `avro:"subscriber"`
	Purpose      string `avro:"purpose"`
	DeliveryID   string `avro:"delivery_id"` // empty: it could not be read
	EventType    string `avro:"event_type"`
	Attempt      int32  `avro:"attempt"` // the number of the attempt, from 1
	Outcome      string `avro:"outcome"` // closed list, see processors/delivery
	Cause        string `avro:"cause"`   // why it was not delivered: closed list, see internal/delivery
	Status       int32  `avro:"status"`  // of the HTTP answer; 0: none came
	Millis       int64  `avro:"millis"`  // how long the attempt took
	RetryAfter   int64  `avro:"retry_after"`
	At           int64  `avro:"at"`
	// Value and Headers are the delivery itself, where it may be for the dead letters; absent: it is read by its offset.
	Value   []byte   `avro:"value"`
	Headers []Header `avro:"headers"`
}
