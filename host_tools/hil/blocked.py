"""What a rig cannot do is neither passed nor failed."""


class Blocked(Exception):
    """The rig lacks what a test needs; the text says what, in one sentence, and what would help."""
