"""The receiving side of the wire: readings out of payloads, a ledger of them, and an MQTT subscriber."""
