"""Espressif's chips, spoken to by esptool as a library."""
