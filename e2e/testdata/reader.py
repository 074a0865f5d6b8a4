"""A subscriber: reads N deliveries from its topic and prints their data as JSON. Arguments: broker, registry, topic, N."""
from confluent_kafka import Consumer

broker, registry, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
consumer = Consumer({
    "bootstrap.servers": broker,
    "group.id": "posti.fi.python",
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
})
consumer.subscribe([topic])
read = []
while len(read) < count:
    message = consumer.poll(30)
    if message is None:
        sys.exit(f"only {len(read)} of {count} deliveries within 30 s")
    if message.error():
        sys.exit(str(message.error()))
    read.append(decode(registry, message.value()))
consumer.close()
json.dump(read, sys.stdout, default=str)
