"""The chips that limpet knows: what their GPIOs can do, and how their ROM and their images are told apart."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A chip. The GPIOs are those of a module with its flash inside or beside it."""

    esptool_name: str
    """What esptool calls it: "ESP32-S3"."""
    image_chip_id: int
    """The chip id in the header of its images (ESP-IDF, `esp_chip_id_t`)."""
    bootloader_offset: int
    """The byte of flash where the ROM looks for the second-stage bootloader."""
    gpios: frozenset[int]
    """All that exist."""
    flash: frozenset[int]
    """Wired to the flash chip inside the module."""
    input_only: frozenset[int]
    """Without an output driver, and without pull-ups."""
    adc: frozenset[int]
    """Analog inputs that work while Wi-Fi is on."""
    adc_without_wifi: frozenset[int]
    """Analog inputs of the converter that Wi-Fi takes for itself."""
    strapping: frozenset[int]
    """Read at reset to choose how the chip boots."""
    download: int
    """Low at reset, it starts the ROM's bootloader instead of what is in the flash."""
    usb: frozenset[int]
    """D- and D+ of the chip's own USB port; none where it has no such port."""


CHIPS = {
    # ESP32 Series Datasheet: "Pin Overview", "Strapping Pins", "Analog Functions" (ADC1 and ADC2 channels).
    "esp32": Chip(
        esptool_name="ESP32",
        image_chip_id=0,
        bootloader_offset=0x1000,
        gpios=frozenset({*range(20), *range(21, 24), *range(25, 28), *range(32, 40)}),
        flash=frozenset(range(6, 12)),
        input_only=frozenset(range(34, 40)),
        adc=frozenset(range(32, 40)),
        adc_without_wifi=frozenset({0, 2, 4, *range(12, 16), *range(25, 28)}),
        strapping=frozenset({0, 2, 5, 12, 15}),
        download=0,
        usb=frozenset(),
    ),
    # ESP32-S3 Series Datasheet: GPIO22 to 25 do not exist; SPICS1 (26, for PSRAM) to SPID (32) serve the
    # flash; ADC1 is on GPIO1 to 10, ADC2 on 11 to 20; strapping pins are 0, 3, 45 and 46. GPIO33 to 37 serve
    # an octal PSRAM where there is one: that is the board's affair.
    "esp32s3": Chip(
        esptool_name="ESP32-S3",
        image_chip_id=9,
        bootloader_offset=0x0,
        gpios=frozenset({*range(22), *range(26, 49)}),
        flash=frozenset(range(26, 33)),
        input_only=frozenset(),
        adc=frozenset(range(1, 11)),
        adc_without_wifi=frozenset(range(11, 21)),
        strapping=frozenset({0, 3, 45, 46}),
        download=0,
        usb=frozenset({19, 20}),
    ),
    # ESP32-C3 Series Datasheet: GPIO12 to 17 serve the flash; ADC1 is on GPIO0 to 4; strapping pins are 2, 8
    # and 9. ADC2 (GPIO5) does not work reliably (ESP32-C3 Series SoC Errata) and ESP-IDF has dropped it, so
    # it is no analog input here.
    "esp32c3": Chip(
        esptool_name="ESP32-C3",
        image_chip_id=5,
        bootloader_offset=0x0,
        gpios=frozenset(range(22)),
        flash=frozenset(range(12, 18)),
        input_only=frozenset(),
        adc=frozenset(range(5)),
        adc_without_wifi=frozenset(),
        strapping=frozenset({2, 8, 9}),
        download=9,
        usb=frozenset({18, 19}),
    ),
    # ESP32-C6 Series Datasheet: GPIO24 to 30 serve the flash; ADC1, the only one, is on GPIO0 to 6;
    # strapping pins are MTMS (4), MTDI (5), 8, 9 and 15.
    "esp32c6": Chip(
        esptool_name="ESP32-C6",
        image_chip_id=13,
        bootloader_offset=0x0,
        gpios=frozenset(range(31)),
        flash=frozenset(range(24, 31)),
        input_only=frozenset(),
        adc=frozenset(range(7)),
        adc_without_wifi=frozenset(),
        strapping=frozenset({4, 5, 8, 9, 15}),
        download=9,
        usb=frozenset({12, 13}),
    ),
}
