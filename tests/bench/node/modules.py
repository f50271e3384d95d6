"""Runs inside MicroPython: the heap that each module of the firmware takes when it is imported.

Arguments: modules in the order of import. What the stock image brings is loaded before, and not counted.
Prints the state before the first, and after each: bytes in use, and MicroPython's line about its names.
"""

import gc
import sys

import machine
import micropython

STOCK = "binascii ds18x20 errno esp32 json network onewire os select socket struct time tls umqtt.simple"
for name in STOCK.split():
    __import__(name)
machine._boot = {"pins": range(40), "adc_pins": range(40), "reset_cause": 1}


def used():
    gc.collect()
    return gc.mem_alloc()


def state():
    print("used", used())
    micropython.qstr_info()


state()
for name in sys.argv[1:]:
    __import__(name)
    state()
