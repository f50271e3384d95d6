"""Watching boards on their serial ports: what they print, in one view, without disturbing them."""
