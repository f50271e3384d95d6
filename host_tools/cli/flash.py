"""`limpet flash`."""
