"""What every subscriber in Python begins with: how a value of Kafka is read by the schema that it names."""
import io
import json
import struct
import sys
import urllib.request

from fastavro import parse_schema, schemaless_reader

schemas = {}


def schema(registry, number, tries=5):
    while number not in schemas:
        try:
            with urllib.request.urlopen(f"{registry}/schemas/ids/{number}") as answer:
                schemas[number] = parse_schema(json.loads(json.load(answer)["schema"]))
        except OSError:  # a busy registry drops a connection now and then
            tries -= 1
            if not tries:
                raise
    return schemas[number]


def decode(registry, value):
    magic, number = struct.unpack(">bI", value[:5])
    assert magic == 0
    body = io.BytesIO(value[5:])
    data = schemaless_reader(body, schema(registry, number))
    assert body.read() == b"", "bytes left over"
    return data
