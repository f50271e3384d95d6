"""The unit names that SenML knows."""

# RFC 8428 section 12.1
_FIRST = """
    m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s
    l/s W/m2 cd/m2 bit bit/s lat lon pH dB dBW Bspl count / % %RH %EL EL 1/s 1/min beat/min beats S/m
"""
# RFC 8798 section 2: further primary units
_FURTHER = "B VA VAs var vars J/m kg/m3 deg"
# RFC 8798 section 3: secondary units
_SECONDARY = """
    ms min h MHz kW kVA kvar Ah Wh kWh varh kvarh kVAh Wh/km KiB GB Mbit/s B/s MB/s mV mA dBm ug/m3 mm/h
    m/h ppm /100 /1000 hPa mm cm km km/h
"""

UNITS = frozenset(f"{_FIRST} {_FURTHER} {_SECONDARY}".split())

OTHER_SPELLINGS = {
    "°C": "Cel",
    "degC": "Cel",
    "Celsius": "Cel",
    "°": "deg",
    "Ω": "Ohm",
    "m²": "m2",
    "m³": "m3",
    "m/s²": "m/s2",
    "m³/s": "m3/s",
    "W/m²": "W/m2",
    "µg/m³": "ug/m3",
    "lux": "lx",
    "percent": "%",
    "rpm": "1/min",
    "L": "l",
    "L/s": "l/s",
    "kph": "km/h",
    "mbar": "hPa",
}
"""What people write for units that SenML spells otherwise."""
