"""socket of the virtual board: the host's sockets, but every way out leads through the radio.

getaddrinfo asks the supervisor, which answers with a gateway of its own for that host and port. Names are so
resolved, traffic is cut, delayed and counted, as the simulated Wi-Fi says.
"""

import _host
import usocket as _usocket
from usocket import *  # noqa: F403

_EAI_FAIL = -202  # lwIP's


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    try:
        where = _host.call_json(b"n", {"host": host, "port": port})
    except OSError:
        raise OSError(_EAI_FAIL)
    return _usocket.getaddrinfo("127.0.0.1", where["port"], 0, type or _usocket.SOCK_STREAM)
