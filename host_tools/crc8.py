"""Maxim's CRC-8, which 1-Wire parts send and the ESP32 burns beside its MAC address."""


def crc8(data: bytes) -> int:
    """CRC-8 over `data`: x^8 + x^5 + x^4 + 1, reflected (DS18B20 datasheet, "CRC Generation").

    Over data with its own CRC behind it, it is 0.
    """
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc
