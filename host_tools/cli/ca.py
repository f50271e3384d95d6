"""`limpet ca`."""
