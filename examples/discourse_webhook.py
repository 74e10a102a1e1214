"""Flag posts of a Discourse forum, without Ruby: `python examples/discourse_webhook.py --port 8010`.

In Discourse, open Admin, API, Webhooks, New, and enter this program's address, the content type application/json, a
secret, and the event "Post Event". Then open Admin, API, Keys, New, and make a key for a user who may flag, with the
scope posts. This program needs only the standard library, and these environment variables:

    SERVER_URL=http://127.0.0.1:8000        the moderation server; SERVER_KEY: its key, if it requires one
    DISCOURSE_URL=https://forum.example     the forum; DISCOURSE_KEY, DISCOURSE_USER: the API key and its user
    WEBHOOK_SECRET                          the webhook's secret

A flagged post goes to the moderators' queue with the labels that flagged it; nothing is hidden or deleted. If something
goes wrong, the answer is 502, so Discourse shows the event as failed and can send it again. A redirect counts as a
failure: following it would send the keys along.
"""

import argparse
import hashlib
import hmac
import json
import os
import re
import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = ("post_created", "post_edited")
NOTIFY_MODERATORS = 7  # Discourse's number for this kind of flag
LARGEST = 1_000_000  # bytes of an event


class Webhook(BaseHTTPRequestHandler):
    """Takes Discourse's events, one per request."""

    timeout = 10

    def do_POST(self) -> None:
        """Classify the post of an event, and flag it if a label does."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LARGEST:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self.answer(400)
        said = self.headers.get("X-Discourse-Event-Signature", "")
        right = hmac.new(os.environ["WEBHOOK_SECRET"].encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(said.encode(), f"sha256={right}".encode()):
            return self.answer(403)
        if self.headers.get("X-Discourse-Event") not in EVENTS:
            return self.answer(204)
        try:
            post = json.loads(body)["post"]
            labels = classify(post["raw"])
            if labels:
                flag(post["id"], labels)
        except Exception as error:  # whatever went wrong, Discourse should send the event again
            print(f"event {self.headers.get('X-Discourse-Event-Id')!r}: {type(error).__name__}", file=sys.stderr)
            return self.answer(502)
        return self.answer(204)

    def answer(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Log nothing about requests that went well."""


def classify(text: str) -> list[str]:
    """Return the labels that flag a text."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("SERVER_KEY"):
        headers["X-API-Key"] = key
    address = os.environ.get("SERVER_URL", "http://127.0.0.1:8000") + "/v1/predict"
    labels = send(address, json.dumps({"texts": [text]}).encode(), headers)["results"][0]["flagged"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TypeError("the labels are not a list of texts")
    return labels


def flag(post_id: int, labels: list[str]) -> None:
    """Put a post into the moderators' queue."""
    fields = {
        "id": post_id,
        "post_action_type_id": NOTIFY_MODERATORS,
        "message": f"Flagged automatically: {', '.join(labels)}",
    }
    headers = {"Api-Key": os.environ["DISCOURSE_KEY"], "Api-Username": os.environ["DISCOURSE_USER"]}
    send(os.environ["DISCOURSE_URL"] + "/post_actions.json", urllib.parse.urlencode(fields).encode(), headers)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as a failure: following it would send the keys along and lose the flag."""

    def redirect_request(self, *_: object) -> None:
        """Follow no redirect."""


OPENER = urllib.request.build_opener(NoRedirect)


def send(address: str, body: bytes, headers: dict[str, str]) -> dict:
    """Send a request and read the JSON of its answer; anything but success, such as a redirect, raises an error."""
    request = urllib.request.Request(address, body, headers)
    with OPENER.open(request, timeout=40) as answer:  # nosec B310 # the addresses are the user's own settings
        content = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError("the answer is too large")
    return json.loads(content)


def main() -> None:
    """Answer until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8010)
    words = parser.parse_args()
    missing = [
        name
        for name in ("WEBHOOK_SECRET", "DISCOURSE_URL", "DISCOURSE_KEY", "DISCOURSE_USER")
        if name not in os.environ
    ]
    if missing:
        parser.error(f"set {', '.join(missing)}")
    server = ThreadingHTTPServer((words.host, words.port), Webhook)
    print(f"listening at http://{words.host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
