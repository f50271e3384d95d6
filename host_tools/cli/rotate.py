"""`limpet rotate`."""
