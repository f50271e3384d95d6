"""Runs inside MicroPython: one MQTT client against a broker over mutual TLS. Prints a line of JSON.

Arguments: limpet, umqtt or chumicro; port; number of messages; folder with the identity.
"""

import gc
import json
import socket
import sys
import time

from tls_client import context_of, umqtt_client

TOPIC = "limpet/bench/data"
PAYLOAD = b"x" * 64
WINDOW = 64
PAUSE_US = 100

for name in ["binascii", "errno", "select", "struct"]:
    __import__(name)  # what the stock image has loaded anyway is no client's heap


def used():
    gc.collect()
    return gc.mem_alloc()


def run_limpet(port, count, context):
    from limpet.mqtt import CLOSED, UP, Session

    session = Session("bench", 60, context)
    confirmed = [0]

    def on_ack(pid):
        confirmed[0] += 1

    session.on_ack = on_ack
    session.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1], "localhost")
    while session.state != UP:
        session.step()
        if session.state == CLOSED:
            raise OSError(session.error)
        time.sleep_ms(1)
    topic = TOPIC.encode()
    sent = 0
    started = time.ticks_us()
    while confirmed[0] < count:
        while sent < count and sent - confirmed[0] < WINDOW:
            if session.publish(topic, PAYLOAD, qos=1) is None:
                break
            sent += 1
        session.step()
        time.sleep_us(PAUSE_US)
    return time.ticks_diff(time.ticks_us(), started), used()


def run_umqtt(port, count, context):
    client = umqtt_client(port, context)
    topic = TOPIC.encode()
    started = time.ticks_us()
    for _ in range(count):
        client.publish(topic, PAYLOAD, qos=1)
    return time.ticks_diff(time.ticks_us(), started), used()


def run_chumicro(port, count, context):
    from chumicro_mqtt import MQTTBackpressureError, MQTTClient, ProtocolState
    from chumicro_sockets.sockets_factory import fixed_connector_factory
    from chumicro_timing.ticks import ticks_ms

    connect = fixed_connector_factory("localhost", port, ssl_context=context)
    client = MQTTClient(transport_factory=connect, client_id="bench", keep_alive_seconds=60)
    confirmed = [0]

    def on_publish(topic, payload):
        confirmed[0] += 1

    client.on_publish = on_publish
    client.connect()
    while client.state != ProtocolState.CONNECTED:
        if client.state == ProtocolState.FAILED:
            raise OSError(str(client.last_error))
        client.handle(ticks_ms())
        time.sleep_ms(1)
    sent = 0
    started = time.ticks_us()
    while confirmed[0] < count:
        try:
            while sent < count:
                client.publish(TOPIC, PAYLOAD, qos=1)
                sent += 1
        except MQTTBackpressureError:
            pass
        client.handle(ticks_ms())
    return time.ticks_diff(time.ticks_us(), started), used()


RUNS = {"limpet": run_limpet, "umqtt": run_umqtt, "chumicro": run_chumicro}


def main():
    which, port, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    context = context_of(folder)
    before = used()
    took, after = RUNS[which](port, count, context)
    print(json.dumps({"seconds": took / 1e6, "heap": after - before}))


main()
