"""The node's spool partition on the host: reading it (`format`), and showing it (`dump`)."""
