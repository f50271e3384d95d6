"""`limpet broker`."""
