"""From a board to a node in service: its identity, its settings, and the proof at the broker."""
