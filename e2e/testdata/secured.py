"""A subscriber of a secured cluster, configured by the file that civicbus printed. It reads N deliveries from its topic, tries
what is not its own, and prints both as JSON. Arguments: file, registry, topic, N, another's topic, another's group, an inbox."""
from confluent_kafka import Consumer, Producer

path, registry, topic, count, other, group, inbox = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:8]
with open(path) as lines:
    settings = dict(line.rstrip("\n").split("=", 1) for line in lines if not line.startswith("#"))


def take(wanted, topics, **changed):
    """Reads that many records; the first error's name where there is one."""
    said = []
    consumer = Consumer({**settings, **changed, "error_cb": lambda e: said.append(e.name())})
    consumer.subscribe(topics)
    got, waited = [], 0
    while len(got) < wanted and not said and waited < 30:
        message = consumer.poll(1)
        if message is None:
            waited += 1
        elif message.error():
            said.append(message.error().name())
        else:
            got.append(decode(registry, message.value()))
    consumer.close()
    return got, said[0] if said else f"{len(got)} records"


def write(to):
    said = []
    producer = Producer({k: v for k, v in settings.items() if k.split(".")[0] in ("bootstrap", "security", "sasl")})
    producer.produce(to, b"x", on_delivery=lambda e, _: said.append(e.name() if e else "written"))
    producer.flush(30)
    return said[0] if said else "nothing"


read, error = take(count, [topic])
if len(read) < count:
    sys.exit(f"only {error}")
# A broker hangs up on a client that it does not let in; whether librdkafka calls that authentication depends on the broker.
shut = {"_AUTHENTICATION": "refused", "_TRANSPORT": "refused", "_ALL_BROKERS_DOWN": "refused"}
wrong, none = take(1, [topic], **{"sasl.password": "wrong"})[1], take(1, [topic], **{"security.protocol": "plaintext"})[1]
refused = {
    "topic": take(1, [other])[1],
    "group": take(1, [topic], **{"group.id": group})[1],
    "own topic": write(topic),
    "inbox": write(inbox),
    "wrong password": shut.get(wrong, wrong),
    "no password": shut.get(none, none),
}
json.dump({"read": read, "refused": refused}, sys.stdout, default=str)
