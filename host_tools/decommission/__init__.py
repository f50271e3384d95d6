"""The end of a node: certificates revoked, flash erased, and both proved (docs/decommission.md)."""
