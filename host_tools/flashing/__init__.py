"""Flashing boards side by side: what is written in which order, what forbids it, and what proves it."""
