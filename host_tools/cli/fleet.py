"""`limpet fleet`."""
