#!/usr/bin/env python3
"""Publish one turn to afterword with nothing but Python's standard library.

    publish.py [--server HOST:PORT] [--data-dir DATA] SESSION USER ASSISTANT

It speaks the plain NATS protocol over a socket and shows all that docs/wire.md
asks of a publisher: the session token, the payload, the message id, waiting for
the acknowledgement, and sending the same bytes again when there is none. The
turn is published twice, as a service that streams its answers would do it:
first what the user said (rev 1, pending), then the whole turn (rev 2). To the embedded
server of `afterword serve` it sends the credentials in the data folder.
"""

import argparse
import datetime
import hashlib
import json
import os
import socket
import string
import sys
import time
import unicodedata
import urllib.parse
import uuid

PLAIN = (string.ascii_letters + string.digits + "_-").encode()
ACK_TIMEOUT = 5  # seconds
DELAYS = (0.1, 0.5, 2, None)  # seconds after each try; a service would go on, up to every 30 s


def token(session_id):
    """The one encoding of a session id, for subjects."""
    raw = session_id.encode()  # UTF-8; refuses lone surrogates
    if not 1 <= len(raw) <= 255 or any(unicodedata.category(c) == "Cc" for c in session_id):
        raise ValueError("a session id is 1 to 255 bytes of UTF-8 without control characters")
    encoded = "".join(chr(b) if b in PLAIN else "=%02X" % b for b in raw)
    if len(encoded) <= 160:
        return encoded
    return encoded[:64] + "=~" + hashlib.sha256(raw).hexdigest()


def message_id(payload):
    """The Nats-Msg-Id of a payload."""
    return hashlib.sha256(payload).hexdigest()[:32]


def credentials(server, data_dir):
    """What `afterword serve` keeps of its server: a URL with user and password, and whose it is."""
    try:
        with open(os.path.join(data_dir, "credentials")) as lines:
            for line in lines:
                name, _, value = line.strip().partition("=")
                url = urllib.parse.urlsplit(value)
                if name == "NATS_URL" and url.netloc.rpartition("@")[2] == server:
                    return url, os.fstat(lines.fileno()).st_uid
    except (FileNotFoundError, PermissionError):
        pass
    return None, None


def peer(sock):
    """The user whose program is at the other end of a connection on this machine (Linux)."""
    ends = ["%08X:%04X" % (int.from_bytes(socket.inet_aton(host), sys.byteorder), port)
            for host, port in (sock.getpeername(), sock.getsockname())]
    with open("/proc/net/tcp") as sockets:
        for fields in map(str.split, sockets):
            if fields[1:3] == ends:
                return int(fields[7])


class NATS:
    """One connection that publishes and waits for the acknowledgement."""

    def __init__(self, server, data_dir):
        host, _, port = server.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=ACK_TIMEOUT)
        self.lines = self.sock.makefile("rb")
        self.info = json.loads(self.lines.readline().split(b" ", 1)[1])  # INFO {...}
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True,
                   "lang": "python", "version": "0", "name": "publish.py", "protocol": 1}
        url, owner = credentials(server, data_dir)
        if url:  # another user may have taken the port while the server is down
            if peer(self.sock) not in (0, owner):
                raise ValueError("another user listens at %s: the credentials were not sent" % server)
            options.update(user=url.username, **{"pass": url.password})
        self.inbox = "_INBOX." + uuid.uuid4().hex
        self.sock.sendall(b"CONNECT %s\r\nSUB %s 1\r\nPING\r\n" % (json.dumps(options).encode(), self.inbox.encode()))
        while self.read() is not None:  # up to the PONG
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.sock.close()

    def read(self):
        """The next message as (headers, body), or None for a PONG."""
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError("the server closed the connection")
            words = line.split()
            if words[0] == b"PONG":
                return None
            if words[0] == b"PING":
                self.sock.sendall(b"PONG\r\n")
            elif words[0] == b"-ERR" and b"Authorization" in line:
                raise ValueError("the server refused the credentials: give the data folder of its `afterword serve` with --data-dir")
            elif words[0] == b"-ERR":
                raise ConnectionError(line.decode().strip())
            elif words[0] in (b"MSG", b"HMSG"):
                body = self.lines.read(int(words[-1]) + 2)[:-2]
                head = int(words[-2]) if words[0] == b"HMSG" else 0
                return body[:head], body[head:]

    def publish(self, subject, payload):
        """Publish once and return the acknowledgement of the stream."""
        limit = self.info["max_payload"] - 16 * 1024
        if len(payload) > limit:
            raise ValueError("the turn is %d bytes long; at most %d are allowed" % (len(payload), limit))
        reply = self.inbox
        headers = b"NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % message_id(payload).encode()
        self.sock.sendall(b"HPUB %s %s %d %d\r\n%s%s\r\n" % (
            subject.encode(), reply.encode(), len(headers), len(headers) + len(payload), headers, payload))
        head, body = self.read()
        if head.startswith(b"NATS/1.0 503"):
            raise ConnectionError("no stream takes this subject; `afterword stream init` makes it")
        ack = json.loads(body)
        if "error" in ack:  # full, or without a leader: the turn is still ours to send
            raise ConnectionError("the stream refused the turn: %s" % ack["error"].get("description"))
        return ack


def publish(server, data_dir, turn):
    """Publish a snapshot of a turn until it is stored: the same bytes every time."""
    payload = json.dumps(turn, ensure_ascii=False, separators=(",", ":")).encode()
    subject = "afterword.turns." + token(turn["session_id"])
    for delay in DELAYS:
        try:
            with NATS(server, data_dir) as nats:
                return nats.publish(subject, payload)
        except OSError as err:  # ConnectionError and timeouts are among them
            if delay is None:
                raise
            print("publish.py: %s, trying again" % err, file=sys.stderr)
            time.sleep(delay)


def main():
    parser = argparse.ArgumentParser(description="Publish one turn to afterword.")
    parser.add_argument("--server", default="127.0.0.1:4222", help="address of NATS")
    parser.add_argument("--data-dir", default="data", help="data folder of `afterword serve`")
    parser.add_argument("session")
    parser.add_argument("user")
    parser.add_argument("assistant")
    args = parser.parse_args()

    turn = {
        "session_id": args.session,
        "id": str(uuid.uuid4()),
        # When the turn began. It stays the same in every snapshot of the turn.
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
        "user": args.user,
        "status": "pending",
        "rev": 1,
    }
    begun = publish(args.server, args.data_dir, turn)
    turn.update(assistant=args.assistant, status="complete", rev=2)  # the model has answered
    done = publish(args.server, args.data_dir, turn)
    print(json.dumps({"id": turn["id"], "sequences": [begun["seq"], done["seq"]]}))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as err:
        sys.exit("publish.py: %s" % err)
