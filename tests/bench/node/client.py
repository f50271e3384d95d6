"""Runs inside MicroPython: one MQTT client against a broker over mutual TLS. Prints a line of JSON.

Arguments: limpet or umqtt, port, number of messages, folder with ca.der, node.der and node.key.der.
"""

import gc
import json
import sys
import time

import tls

TOPIC = b"limpet/bench/data"
PAYLOAD = b"x" * 64
WINDOW = 64


def used():
    gc.collect()
    return gc.mem_alloc()


def context_of(folder):
    def read(name):
        with open(folder + "/" + name, "rb") as f:
            return f.read()

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    context.load_cert_chain(read("node.der"), read("node.key.der"))
    context.load_verify_locations(read("ca.der"))
    return context


def run_limpet(port, count, context):
    from limpet.mqtt import UP, Session

    session = Session("bench", "127.0.0.1", port, "localhost", 60, context)
    confirmed = [0]

    def on_ack(pid):
        confirmed[0] += 1

    session.on_ack = on_ack
    session.connect()
    while session.state != UP:
        session.step()
        time.sleep_ms(2)
    sent = 0
    started = time.ticks_us()
    while confirmed[0] < count:
        while sent < count and sent - confirmed[0] < WINDOW:
            if session.publish(TOPIC, PAYLOAD, qos=1) is None:
                break
            sent += 1
        session.step()
    return time.ticks_diff(time.ticks_us(), started), used()


def run_umqtt(port, count, context):
    class ussl:
        # The module that PyPI's version imports is gone from MicroPython: this is what it did.
        @staticmethod
        def wrap_socket(sock):
            return context.wrap_socket(sock, server_hostname="localhost")

    sys.modules["ussl"] = ussl
    from umqtt.simple import MQTTClient

    client = MQTTClient("bench", "127.0.0.1", port, keepalive=60, ssl=True)
    client.connect()
    started = time.ticks_us()
    for _ in range(count):
        client.publish(TOPIC, PAYLOAD, qos=1)
    return time.ticks_diff(time.ticks_us(), started), used()


def main():
    which, port, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    before = used()
    took, after = {"limpet": run_limpet, "umqtt": run_umqtt}[which](port, count, context_of(folder))
    print(json.dumps({"seconds": took / 1e6, "heap": after - before}))


main()
