"""A subscriber: reads N deliveries from its topic and prints their data as JSON. Arguments: broker, registry, topic, N."""
import io
import json
import struct
import sys
import urllib.request

from confluent_kafka import Consumer
from fastavro import parse_schema, schemaless_reader

broker, registry, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
schemas = {}


def schema(number, tries=5):
    while number not in schemas:
        try:
            with urllib.request.urlopen(f"{registry}/schemas/ids/{number}") as answer:
                schemas[number] = parse_schema(json.loads(json.load(answer)["schema"]))
        except OSError:  # a busy registry drops a connection now and then
            tries -= 1
            if not tries:
                raise
    return schemas[number]


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
    magic, number = struct.unpack(">bI", message.value()[:5])
    assert magic == 0
    body = io.BytesIO(message.value()[5:])
    read.append(schemaless_reader(body, schema(number)))
    assert body.read() == b"", "bytes left over"
consumer.close()
json.dump(read, sys.stdout, default=str)
