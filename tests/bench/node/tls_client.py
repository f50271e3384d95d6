"""For the scripts beside it: TLS as a node has it, and umqtt.simple over it."""

import ssl
import sys


def context_of(folder):
    """An SSLContext that shows our certificate and demands the broker's, from DER files."""

    def read(name):
        with open(folder + "/" + name, "rb") as f:
            return f.read()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(read("node.der"), read("node.key.der"))
    context.load_verify_locations(cadata=read("ca.der"))
    return context


def umqtt_client(port, context):
    """A client of PyPI's umqtt.simple, connected to the broker on this machine."""

    class ussl:
        # The module that it imports is gone from MicroPython: this is what it did.
        @staticmethod
        def wrap_socket(sock):
            return context.wrap_socket(sock, server_hostname="localhost")

    sys.modules["ussl"] = ussl
    from umqtt.simple import MQTTClient

    client = MQTTClient("bench", "127.0.0.1", port, keepalive=60, ssl=True)
    client.connect()
    return client
