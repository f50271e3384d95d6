"""Who may talk to whom: the certificate authority, node identities and the partition they live in."""
