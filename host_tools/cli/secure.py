"""`limpet secure`."""
