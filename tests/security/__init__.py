"""The security report, and the tests of promises that no single part of limpet keeps alone."""
