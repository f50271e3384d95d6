"""Rotation: nodes get new certificates, or new trusted CAs, over MQTT while they work (docs/rotate.md)."""
