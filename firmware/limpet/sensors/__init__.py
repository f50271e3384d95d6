"""Sensor drivers. One module a kind; each has a class `Driver` with the same four names.

    channels    tuple of (leaf, SenML unit, decimals, low, high); low and high are the sensor's range, scaled
    reasons     bytearray, one of limpet.reading's reasons for each channel, set by `read` (0: good)
    start()     begins a measurement; returns the milliseconds after which `read` may be called
    read(out)   puts a scaled integer for each channel into the list `out`

`start` and `read` raise SensorError or OSError when the whole sensor has no value. The next `start`
then sets the chip up from the beginning: it may be another chip by now.
"""

KINDS = ("bme280", "ds18b20", "current_loop")


def make(spec):
    """Return the driver for `spec`, one entry of "sensors" in the node's settings.

    Only the module of the kind that is asked for is loaded. Opens pins and buses, talks to nothing yet.
    Raises ValueError for a kind that this firmware does not have.
    """
    kind = spec["kind"]
    if kind not in KINDS:
        raise ValueError("unknown sensor kind: " + kind)
    return __import__("limpet.sensors." + kind, None, None, (kind,)).Driver(spec)
