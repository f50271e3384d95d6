"""Servers of these tests: a UDP socket on loopback that does not wait."""

import usocket
import utime


def server():
    """(socket, port). The unix port cannot ask which port it was given, so it tries some."""
    sock = usocket.socket(usocket.AF_INET, usocket.SOCK_DGRAM)
    for port in range(20000 + utime.ticks_us() % 20000, 65000):
        try:
            sock.bind(usocket.getaddrinfo("127.0.0.1", port)[0][-1])
        except OSError:
            continue
        sock.setblocking(False)
        return sock, port
    raise OSError("no port is free")
