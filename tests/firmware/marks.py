"""`security(number, *clauses)` for tests that run inside MicroPython: as `pytest.mark.security` elsewhere.

conftest.py reads the decorator where it stands in the file; inside MicroPython it does nothing.
"""


def security(number, *clauses):
    return lambda function: function
