"""How a node says who it is on its serial port, without stopping (firmware/limpet/answerback.py)."""

import re

ASK = b"\x16"
"""SYN: to MicroPython's prompt it means nothing."""

ANSWER = re.compile(rb"limpet (\S{1,32}) node (\S{1,32})(| production)\r?\n")
"""The firmware's version, the node's id or '-', and whether its serial port is locked."""
