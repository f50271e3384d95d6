"""`limpet boards`."""
