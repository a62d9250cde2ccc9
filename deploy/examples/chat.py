#!/usr/bin/env python3
"""A chat API whose replies wait for no disk, with Python's standard library.

    chat.py [--listen HOST:PORT] [--host NAME] [--gateway http://HOST:PORT]
    curl -N --data 'Hello there' http://127.0.0.1:9002/chat/abc

It answers POST /chat/{session} with the words of a model as they come, as plain
text, and talks to `afterword gateway` (or `serve`) over HTTP: the last turns are
read before each answer, what the user said is kept before the model is called
(rev 1, pending), and the answer after its last word has gone out (rev 2). The
traceparent of a request goes along, so that its turns are in its trace. It answers pages
of its own host alone: localhost, an address, or the name that --host gives.

The gateway answers from memory, so that takes a millisecond. When it is away, turns
wait here, and a thread sends them again: the same bytes, which adds nothing twice.
"""

import argparse
import collections
import datetime
import http.client
import http.server
import ipaddress
import json
import signal
import socketserver
import sys
import threading
import time
import urllib.parse
import uuid

TIMEOUT = 2  # seconds that the gateway may take
KEPT = 10_000  # turns that may wait for it
DRAIN = 20  # seconds that a stop may take
MAX_MESSAGE = 64 << 10  # bytes that a user may say at once


class Gateway:
    """The HTTP API of afterword, and the turns that it has not taken yet."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc
        self.waiting = collections.deque()
        self.changed = threading.Condition()
        threading.Thread(target=self.send_again, daemon=True).start()

    def call(self, method, session, what, trace, body=None):
        """One request: its status and its answer."""
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT)
        try:
            path = "/v1/sessions/%s/%s" % (urllib.parse.quote(session, safe=""), what)
            headers = {"Content-Type": "application/json"} if body else {}
            if trace:
                headers["traceparent"] = trace
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def history(self, session, trace):
        """The last answered turns, oldest first; none when nobody knows them now."""
        try:
            status, answer = self.call("GET", session, "history", trace)
        except (OSError, ValueError, http.client.HTTPException) as err:
            print("chat.py: no history: %s" % err, file=sys.stderr)
            return []
        return answer["turns"] if status == 200 else []

    def publish(self, session, turn, trace):
        """Hand over a snapshot of a turn, or keep it until that is possible. Their
        order means nothing: the higher rev wins."""
        body = json.dumps(turn).encode()
        if not self.waiting and self.taken(session, body, trace):
            return
        with self.changed:
            if len(self.waiting) == KEPT:
                print("chat.py: a turn is lost: %d are waiting already" % KEPT, file=sys.stderr)
                return
            self.waiting.append((session, body, trace))
            self.changed.notify_all()

    def taken(self, session, body, trace):
        """Send once. Only trouble that passes is a reason to send again."""
        try:
            status, answer = self.call("POST", session, "turns", trace, body)
        except (OSError, ValueError, http.client.HTTPException) as err:
            print("chat.py: %s, trying again" % err, file=sys.stderr)
            return False
        if 400 <= status < 500 and status != 408:
            print("chat.py: a turn was refused: %s" % answer.get("detail"), file=sys.stderr)
            return True
        return status in (201, 202)

    def send_again(self):
        delay = 0.1
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting)
                session, body, trace = self.waiting[0]
            if self.taken(session, body, trace):
                delay = 0.1
                with self.changed:
                    self.waiting.popleft()
                    self.changed.notify_all()
            else:
                time.sleep(delay)
                delay = min(2 * delay, 30)

    def drain(self):
        """Wait until everything is handed over, and say how much is not."""
        with self.changed:
            self.changed.wait_for(lambda: not self.waiting, DRAIN)
            return len(self.waiting)


def now(after=None):
    """The time, and always later than that of the turn before."""
    at = datetime.datetime.now(datetime.timezone.utc)
    if after:
        at = max(at, datetime.datetime.fromisoformat(after) + datetime.timedelta(microseconds=1))
    return at.isoformat(timespec="microseconds")


def model(before, said):
    """Stands for a language model: gives its answer word by word."""
    text = "Turn %d." % (len(before) + 1)
    if before:
        text += ' Before, you said "%s".' % before[-1]["user"]
    for word in (text + " Now you say: " + said).split():
        time.sleep(0.02)
        yield word + " "


class Chat(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gateway = None
    host = None  # a name of this server

    def is_ours(self):
        """Whether no page of another site sent this: a browser sends text for any page,
        without asking first. A page whose name was pointed at this address (DNS rebinding)
        counts as our own, so the host is checked too."""
        host = self.headers.get("Host", "")
        name = urllib.parse.urlsplit("//" + host).hostname
        if name not in ("localhost", self.host):
            ipaddress.ip_address(name)  # a ValueError when it is another name
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return False
        return self.headers.get("Origin") in (None, "http://" + host, "https://" + host)

    def do_POST(self):
        try:
            ours = self.is_ours()
        except ValueError:
            ours = False
        if not ours:
            self.send_error(403, "This is for pages of this host; see --host")
            self.close_connection = True
            return
        try:
            where, session = self.path.split("/")[1:]
            session = urllib.parse.unquote(session, errors="strict")
            length = int(self.headers["Content-Length"])
            if where != "chat" or not 0 <= length <= MAX_MESSAGE:
                raise ValueError
            said = self.rfile.read(length).decode()
        except (TypeError, ValueError):
            self.send_error(400, "POST at most 64 KiB of text to /chat/SESSION")
            self.close_connection = True
            return

        trace = self.headers.get("traceparent")
        before = self.gateway.history(session, trace)
        turn = {
            "id": str(uuid.uuid4()),
            "timestamp": now(before[-1]["timestamp"] if before else None),
            "user": said, "status": "pending", "rev": 1, "model": "fake",
        }
        self.gateway.publish(session, turn, trace)

        answer, status = "", "complete"
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for word in model(before, said):
                answer += word
                raw = word.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the user has gone; what was said so far stays
            status = "cancelled"
            self.close_connection = True
        except Exception as err:  # the model's
            status = "failed"
            turn["error"] = str(err)
            raise
        finally:
            turn.update(assistant=answer, status=status, rev=2, completed_at=now())
            self.gateway.publish(session, turn, trace)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False  # a stop waits for answers that are under way
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description="A chat API that keeps its transcripts with afterword.")
    parser.add_argument("--listen", default="127.0.0.1:9002")
    parser.add_argument("--host", help="name to answer for beside localhost and addresses")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080")
    args = parser.parse_args()
    host, _, port = args.listen.rpartition(":")

    gateway = Chat.gateway = Gateway(args.gateway)
    Chat.host = args.host
    Chat.timeout = 60  # of a connection that says nothing
    server = Server((host, int(port)), Chat)
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # shutdown waits for the loop below
        signal.signal(sig, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()  # waits for the threads
    left = gateway.drain()
    if left:
        sys.exit("chat.py: %d snapshots of turns were not handed over" % left)


if __name__ == "__main__":
    main()
