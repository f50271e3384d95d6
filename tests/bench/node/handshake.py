"""Runs inside MicroPython: how long a TLS handshake computes in C at a stretch, without waiting for anybody.

Arguments: port, folder with the identity, number of handshakes. Prints a line of JSON: the microseconds of
each one's longest stretch.
"""

import json
import socket
import sys
import time

from tls_client import context_of

PINGREQ = b"\xc0\x00"


def longest_step(address, context):
    raw = socket.socket()
    raw.connect(address)
    raw.setblocking(False)
    sock = context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)
    longest = 0
    written = None
    while written is None:  # nothing is written before the handshake is done
        began = time.ticks_us()
        written = sock.write(PINGREQ)
        longest = max(longest, time.ticks_diff(time.ticks_us(), began))
        time.sleep_ms(1)
    sock.close()
    return longest


def main():
    port, folder, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    context = context_of(folder)
    address = socket.getaddrinfo("127.0.0.1", port)[0][-1]
    print(json.dumps([longest_step(address, context) for _ in range(count)]))


main()
