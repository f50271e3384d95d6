"""`limpet decommission`."""
