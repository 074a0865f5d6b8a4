"""A receiver of civicbus's webhooks, with nothing but Python: python3 receiver.py PORT FILE-OF-THE-SECRET

It gives its permission (OPTIONS, CloudEvents' web hooks), checks each signature (Standard Webhooks 1.0.0), remembers
webhook-ids so that a repeat counts once, and prints a line for each delivery.
"""
import base64
import hashlib
import hmac
import http.server
import json
import sys
import time

port, secret_file = int(sys.argv[1]), sys.argv[2]
with open(secret_file, encoding="ascii") as f:
    secret = base64.b64decode(f.read().strip().removeprefix("whsec_"))
seen = set()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self):
        self.send_response(200)
        self.send_header("WebHook-Allowed-Origin", self.headers["WebHook-Request-Origin"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204 if self.verified(body) else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def verified(self, body):
        id, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        good = base64.b64encode(hmac.digest(secret, f"{id}.{at}.".encode() + body, hashlib.sha256)).decode()
        signatures = self.headers["webhook-signature"].split()
        if abs(time.time() - int(at)) > 300 or not any(hmac.compare_digest(s, "v1," + good) for s in signatures):
            return False
        if id not in seen:
            seen.add(id)
            address = json.loads(body).get("newAddress") or {}
            print(self.headers["ce-type"], address.get("municipality", "-"), flush=True)
        return True

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
