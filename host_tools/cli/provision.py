"""`limpet provision`."""
