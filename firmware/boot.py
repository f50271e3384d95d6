"""Runs at every start, a soft reset into the raw REPL included: it must not wait and must not fail."""

import gc

# Collect early: TLS takes one contiguous block of the heap that MicroPython and ESP-IDF share.
gc.threshold(16384)
