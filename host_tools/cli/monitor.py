"""`limpet monitor`."""
