"""`limpet image`."""
