"""Security: what issue by issue is promised, the tests that no single part owns, and the report of all."""
