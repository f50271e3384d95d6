"""`limpet devices`."""
