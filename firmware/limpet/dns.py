"""Names to addresses, without blocking: a chip's getaddrinfo() holds everything up while it waits.

Asks for A records over UDP (RFC 1035, RFC 5452). No cache: who asks keeps the answer as long as it serves.
"""

import os
import select
import socket
import time

from micropython import const

_PORT = const(53)
_TRY_MS = const(1000)
_TRIES = const(3)
_POLL_MS = const(2)
_MOST = const(512)  # RFC 1035 §4.2.1: a longer answer is one that was cut off
_NO_SUCH_NAME = const(3)


def resolve(host, port, server, tries=_TRIES):
    """The address of `host`:`port` as getaddrinfo() gives it (a generator; yields the ms that it can wait).

    `server` is the name server's IPv4 address; it is asked up to `tries` times, a second each. An address
    needs none. Raises OSError with the reason as text.
    """
    if not _is_address(host):
        host = yield from _look_up(host, server, tries)
    return socket.getaddrinfo(host, port)[0][-1]


def ask(address, question, is_answer, patience_ms=_TRY_MS):
    """Send a datagram, and give the first from there that `is_answer(data, question)` (a generator).

    Raises OSError when none has come after `patience_ms`.
    """
    complaint = "no answer"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(address)  # others' datagrams do not reach us, and a refusal does
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        sock.send(question)
        began = time.ticks_ms()
        while True:
            # The clock first, then the socket: an answer that waits for us, because others took long, counts.
            waited = time.ticks_diff(time.ticks_ms(), began)
            if poller.poll(0):
                data = sock.recv(_MOST)
                if is_answer(data, question):
                    return data
                complaint = "answers nonsense"
            if waited > patience_ms:
                raise OSError(complaint)
            yield _POLL_MS
    finally:
        sock.close()


def _is_address(host):
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts)


def _look_up(host, server, tries):
    question = b""
    for label in host.lower().split("."):
        encoded = label.encode()
        if not 0 < len(encoded) < 64:
            raise OSError("not a name")
        question += bytes((len(encoded),)) + encoded
    question += b"\0\0\1\0\1"  # its end, type A, class IN
    address = socket.getaddrinfo(server, _PORT)[0][-1]
    while True:
        # Number and port are random: to forge an answer one must have seen the question.
        whole = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + question
        tries -= 1
        try:
            answer = yield from ask(address, whole, _answers)
            break
        except OSError as e:
            if tries <= 0:
                raise OSError("name server %s: %s" % (server, e))
    return _first_address(answer, len(whole))


def _answers(data, question):
    # Some servers write the name back in small letters, so ours has no others.
    return (
        data[:2] == question[:2]
        and len(data) >= len(question)
        and data[2] & 0xF8 == 0x80  # an answer to a standard query
        and data[4:6] == b"\0\1"
        and data[12 : len(question)].lower() == question[12:]
    )


def _first_address(answer, at):
    """The first A record from `at` on. Aliases before it, which led the server there, are passed over."""
    code = answer[3] & 15
    if code:
        raise OSError("no such name" if code == _NO_SUCH_NAME else "name server says error %d" % code)
    try:
        if answer[2] & 2:
            raise IndexError  # cut off
        for _ in range(answer[6] << 8 | answer[7]):
            # Names are skipped, never followed, so a pointer cannot lead in a circle.
            while answer[at] and answer[at] < 64:
                at += 1 + answer[at]
            if answer[at]:
                if answer[at] < 0xC0:
                    raise IndexError  # no such label
                at += 1
            at += 1
            size = answer[at + 8] << 8 | answer[at + 9]
            data = answer[at + 10 : at + 10 + size]
            if answer[at : at + 4] == b"\0\1\0\1":
                return "%d.%d.%d.%d" % (data[0], data[1], data[2], data[3])
            at += 10 + size
    except IndexError:
        raise OSError("name server answers nonsense")
    raise OSError("name has no address")
