"""limpet.wifi on a station with the ESP32's habits: MicroPython 1.27, ports/esp32/network_wlan.c."""

import network
from limpet import wifi as module
from limpet.wifi import Wifi


class Air:
    """Access points, a station, and a clock that the test moves; `connects` is what was tried, and when."""

    def __init__(self, passwords, joining_ms=2000, failing_ms=2500, refuse_connect=0, was_joined=None):
        self.passwords = passwords  # of the networks in reach; None is an open one
        self.ticks = 0
        self.connects = []
        self.active_calls = []
        self._joining_ms = joining_ms
        self._failing_ms = failing_ms
        self._refuse_connect = refuse_connect
        self._wanted = None
        self._since = 0
        self._disconnected_at = None
        self.joined = was_joined
        self._reason = 0  # of the last failure: connect() does not clear it, only an address does

    # network.WLAN

    def active(self, on):
        self.active_calls.append(on)

    def isconnected(self):
        self._go_on()
        return self.joined is not None

    def disconnect(self):
        self._wanted = self.joined = None
        self._disconnected_at = self.ticks

    def connect(self, ssid, key=None):
        if self._wanted or self._disconnected_at == self.ticks:
            raise OSError("Wifi Internal State Error")
        if self._refuse_connect:
            self._refuse_connect -= 1
            raise OSError("Wifi Internal Error")
        self.connects.append((self.ticks, ssid))
        self._wanted = (ssid, key)
        self._since = self.ticks

    def status(self, what=None):
        self._go_on()
        if what == "rssi":
            if self.joined is None:
                raise OSError("Wifi Not Connected")
            return -61
        if self.joined:
            return network.STAT_GOT_IP
        return self._reason or (network.STAT_CONNECTING if self._wanted else network.STAT_IDLE)

    def ifconfig(self):
        return ("10.0.0.42", "255.255.255.0", "10.0.0.1", "10.0.0.53")

    def _go_on(self):
        if self.joined and self.joined not in self.passwords:
            self.joined, self._reason, self._since = None, network.STAT_BEACON_TIMEOUT, self.ticks
        if self._wanted and not self.joined:
            ssid, key = self._wanted
            known = ssid in self.passwords
            if known and self.passwords[ssid] == key:
                if self.ticks - self._since >= self._joining_ms:
                    self.joined, self._reason = ssid, 0
            elif self.ticks - self._since >= self._failing_ms:
                self._reason = network.STAT_WRONG_PASSWORD if known else network.STAT_NO_AP_FOUND

    # time

    def ticks_ms(self):
        return self.ticks

    def ticks_diff(self, a, b):
        return a - b


said = []


def station(air, networks):
    class Radio:
        IF_STA = 0

        def __new__(cls, interface):
            return air

    module.network = type("network", (), {"WLAN": Radio})
    for name in dir(network):
        if name.startswith("STAT_"):
            setattr(module.network, name, getattr(network, name))
    module.time = air
    module.log = lambda who, what: said.append(what)
    said.clear()
    return Wifi(networks)


def run_until(wifi, air, condition, limit_ms=120000):
    """Run the task until the condition holds; when that was."""
    for pause in wifi.run():
        assert pause > 0
        if condition():
            return air.ticks
        air.ticks += pause
        assert air.ticks < limit_ms, said
    raise AssertionError("the task ended")


PLANT = {"ssid": "plant", "password": "right one"}
GUEST = {"ssid": "guest"}


def test_the_first_network_in_reach_is_joined():
    air = Air({"plant": "right one", "guest": None})
    wifi = station(air, [PLANT, GUEST])
    run_until(wifi, air, wifi.is_up)
    assert [ssid for _, ssid in air.connects] == ["plant"]
    assert (wifi.joins, wifi.rssi()) == (1, -61)
    assert said == ["joined 'plant', 10.0.0.42"]
    assert air.active_calls == [True]


def test_the_name_server_is_the_one_that_the_network_names():
    air = Air({"plant": "right one"})
    assert station(air, [PLANT]).dns() == "10.0.0.53"


def test_a_wrong_password_and_a_missing_network_move_on_to_the_next():
    air = Air({"plant": "changed", "guest": None})
    wifi = station(air, [{"ssid": "gone"}, PLANT, GUEST])
    run_until(wifi, air, wifi.is_up)
    assert [ssid for _, ssid in air.connects] == ["gone", "plant", "guest"]
    assert said == ["'gone': not found", "'plant': wrong password", "joined 'guest', 10.0.0.42"]


def test_the_status_of_the_attempt_before_is_not_taken_for_this_ones():
    # Joining takes 4 s here, and all the while the chip still says 201 of the network before.
    air = Air({"guest": None}, joining_ms=4000)
    wifi = station(air, [PLANT, GUEST])
    run_until(wifi, air, wifi.is_up)
    assert [ssid for _, ssid in air.connects] == ["plant", "guest"]


def test_a_network_that_neither_joins_nor_fails_is_given_up_in_time():
    air = Air({"plant": "right one"}, joining_ms=1000000)
    wifi = station(air, [PLANT])
    run_until(wifi, air, lambda: len(air.connects) == 3)
    first, second, third = [at for at, _ in air.connects]
    assert 15000 <= second - first <= 25000 and 15000 <= third - second <= 25000
    assert said[0] == "'plant': no connection, status 1001"


def test_loss_is_noticed_and_the_network_joined_again():
    air = Air({"plant": "right one"})
    wifi = station(air, [PLANT])
    steps = wifi.run()
    while not wifi.joins:
        air.ticks += next(steps)
    air.passwords.clear()
    assert not wifi.is_up()
    assert wifi.rssi() is None
    for _ in range(100):
        air.ticks += next(steps)
    air.passwords["plant"] = "right one"
    since = air.ticks
    while wifi.joins < 2:
        air.ticks += next(steps)
        assert air.ticks - since < 30000


def test_an_error_of_connect_is_told_and_tried_again():
    air = Air({"plant": "right one"}, refuse_connect=2)
    wifi = station(air, [PLANT])
    run_until(wifi, air, wifi.is_up)
    assert said == ["'plant': Wifi Internal Error"] * 2 + ["joined 'plant', 10.0.0.42"]


def test_an_error_of_disconnect_does_not_end_the_task():
    air = Air({"plant": "right one"})
    wifi = station(air, [PLANT])
    disconnect = air.disconnect
    errors = [OSError("Wifi Not Started")]

    def refuse():
        if errors:
            raise errors.pop()
        disconnect()

    air.disconnect = refuse
    run_until(wifi, air, wifi.is_up)
    assert said[0] == "'plant': Wifi Not Started"


def test_a_station_that_is_joined_already_is_left_alone():
    # After a soft reset the radio has never stopped.
    air = Air({"plant": "right one"}, was_joined="plant")
    wifi = station(air, [PLANT])
    steps = wifi.run()
    for _ in range(50):
        air.ticks += next(steps)
    assert air.connects == [] and wifi.is_up()


def test_no_log_line_bears_a_password():
    air = Air({"plant": "changed"}, refuse_connect=1)
    wifi = station(air, [PLANT])
    run_until(wifi, air, lambda: len(said) >= 4)
    assert not [line for line in said if "right one" in line or "changed" in line]
