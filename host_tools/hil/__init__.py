"""Hardware in the loop: one test, any rig, and a report one can trust (docs/hil.md)."""
