"""The pins edge on gpiozero's mock pins: levels, contacts, safe states, and machines without pins."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockPin, MockPWMPin
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.effects import Drive, ReadSensors
from chappe.core.events import ButtonEdge, Event, Faulted, Healed
from chappe.core.settings import Indicators, Output
from chappe.core.units import MILLISECOND, Ns, WallNs
from chappe.edge.gpio import Gpio, Lamp, mock_factory, pin_factory
from chappe.errors import EdgeError


class ManualClock:
    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Ns:
        return Ns(self.at)

    def wall(self) -> WallNs:
        return WallNs(self.at)


class Board:
    """A Pi made of mock pins, with an edge on it."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.edge: Gpio | None = None

    def start(
        self,
        lamps: Indicators | None = None,
        outputs: dict[str, Output] | None = None,
        buttons: dict[str, int] | None = None,
        factory: Callable[[], Any] | None = None,
    ) -> Gpio:
        self.edge = Gpio(
            lamps or Indicators(),
            outputs or {},
            buttons or {},
            clock=self.clock,
            post=self.events.append,
            factory=factory or (lambda: self.factory),
        )
        self.edge.open()
        return self.edge

    def pin(self, number: int) -> Any:
        return self.factory.pin(number)

    def drive(self, pin: str, level: float) -> None:
        assert self.edge is not None
        self.edge.handle([Drive(pin=pin, level=level)])

    def faults(self) -> list[tuple[str, str]]:
        return [(event.part, event.code) for event in self.events if isinstance(event, Faulted)]


@pytest.fixture
def board() -> Iterator[Board]:
    one = Board(mock_factory())
    yield one
    if one.edge is not None:
        one.edge.close()


def no_chip() -> Any:
    raise EdgeError("this machine has no GPIO chip", code="gpio_missing")


# ── lamps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("IND-04", breaks="chappe.edge.gpio:Gpio.handle")
def test_an_effect_drives_its_lamp_and_no_other(board: Board) -> None:
    """Each lamp has its own pin; all start dark."""
    board.start(Indicators(status=17, green=22, red=23, blue=24))
    assert [board.pin(number).state for number in (17, 22, 23, 24)] == [0, 0, 0, 0]
    board.drive("green", 1.0)
    assert [board.pin(number).state for number in (17, 22, 23, 24)] == [0, 1, 0, 0]
    board.drive("green", 0.0)
    board.drive("red", 1.0)
    assert [board.pin(number).state for number in (17, 22, 23, 24)] == [0, 0, 1, 0]


def test_a_lamp_is_dimmed_where_the_pins_can(board: Board) -> None:
    """A level between off and on is a duty cycle."""
    edge = board.start(Indicators(status=17))
    board.drive("status", 0.25)
    assert board.pin(17).state == 0.25
    assert board.pin(17).frequency == 100
    assert edge.levels() == {"status": 0.25}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_a_dimmable_lamp_shows_every_level(levels: list[float]) -> None:
    """What was driven last is what the pin shows and what `levels` tells."""
    board = Board(mock_factory())
    edge = board.start(Indicators(status=17))
    for level in levels:
        board.drive("status", level)
        assert board.pin(17).state == edge.levels()["status"] == level
    edge.close()


@pytest.mark.parametrize("why", ["the owner said so", "the pins cannot"])
def test_a_lamp_that_cannot_be_dimmed_is_on_from_half(why: str) -> None:
    """Without PWM a fade of 1 s up and 1 s down becomes 1 s on and 1 s off."""
    board = Board(mock_factory() if why == "the owner said so" else MockFactory(pin_class=MockPin))
    edge = board.start(Indicators(status=17, pwm=why != "the owner said so"))
    board.pin(17).clear_states()
    for step in (*range(11), *range(10, -1, -1)):
        board.drive("status", step / 10)
    assert [bool(state.state) for state in board.pin(17).states] == [False, True, False]
    board.drive("status", 0.5)
    assert board.pin(17).state
    board.drive("status", 0.49)
    assert not board.pin(17).state
    assert board.faults() == []
    edge.close()


def test_a_lamp_that_cannot_be_dimmed_shines_at_low_brightness(board: Board) -> None:
    """The core scales levels by `brightness`; an undimmable lamp then counts half of that as half."""
    board.start(Indicators(status=17, pwm=False, brightness=0.2))
    board.drive("status", 0.2)
    assert board.pin(17).state
    board.drive("status", 0.09)
    assert not board.pin(17).state


def test_unknown_pins_and_other_effects_harm_nobody(board: Board) -> None:
    """An effect for a pin that is not configured is counted."""
    edge = board.start(Indicators(status=17))
    edge.handle([Drive(pin="fan", level=1.0), ReadSensors(names=("a",)), Drive(pin="status", level=1.0)])
    assert edge.counts == {"unknown": 1}
    assert board.pin(17).state == 1


# ── the privacy lamp ─────────────────────────────────────────────────────────────────────────────────────────────────


def privacy_lamp(edge: Gpio) -> Lamp:
    lamp = edge.privacy_lamp()
    assert lamp is not None
    return lamp


def test_only_the_lamp_itself_drives_the_privacy_lamp(board: Board) -> None:
    """The engine has no way to put it out, or to light it."""
    edge = board.start(Indicators(status=17, privacy=27))
    lamp = privacy_lamp(edge)
    lamp.on()
    board.drive("privacy", 0.0)
    assert board.pin(27).state == 1
    lamp.off()
    board.drive("privacy", 1.0)
    assert board.pin(27).state == 0
    assert edge.counts == {"privacy": 2}


def test_the_privacy_lamp_is_never_dimmed(board: Board) -> None:
    """Whatever the brightness of the others, it is fully on, and not pulsed."""
    edge = board.start(Indicators(status=17, privacy=27, brightness=0.1))
    privacy_lamp(edge).on()
    assert board.pin(27).state == 1
    assert board.pin(27).frequency is None
    assert edge.levels() == {"status": 0.0, "privacy": 1.0}


@pytest.mark.parametrize("privacy", [None, False])
def test_no_privacy_lamp_where_none_is_configured(board: Board, privacy: bool | None) -> None:
    """Unset, and the owner's word that there is none, give no lamp."""
    assert board.start(Indicators(status=17, privacy=privacy)).privacy_lamp() is None


def test_pin_nought_is_a_pin_and_not_false(board: Board) -> None:
    """BCM 0 is not the owner's word that there is no lamp."""
    privacy_lamp(board.start(Indicators(privacy=0))).on()
    assert board.pin(0).state == 1


def not_drivable(lamp: Lamp) -> EdgeError:
    for deed in (lamp.on, lamp.off):
        with pytest.raises(EdgeError) as caught:
            deed()
        assert caught.value.code == "privacy_led"
    return caught.value


def test_a_privacy_lamp_on_simulated_pins_is_not_drivable(board: Board) -> None:
    """A lamp that exists only in memory tells nobody that the camera is open."""
    error = not_drivable(privacy_lamp(board.start(Indicators(privacy=27), factory=no_chip)))
    assert "no GPIO chip" in error.message


def test_a_privacy_lamp_whose_pin_is_taken_is_not_drivable(board: Board) -> None:
    """The pin went to the status lamp."""
    error = not_drivable(privacy_lamp(board.start(Indicators(status=27, privacy=27))))
    assert error.code == "privacy_led"


def test_a_privacy_lamp_that_fails_says_so(broken: Board) -> None:
    """The camera edge gets an error and not a lamp that only seems lit."""
    edge = broken.start(Indicators(privacy=27))
    lamp = privacy_lamp(edge)
    lamp.on()
    broken.pin(27).broken = True
    assert "Remote I/O" in not_drivable(lamp).message


def test_a_closed_privacy_lamp_is_dark_and_not_drivable(board: Board) -> None:
    """After the end nobody can light it."""
    edge = board.start(Indicators(privacy=27))
    lamp, pin = privacy_lamp(edge), board.pin(27)
    lamp.on()
    edge.close()
    assert pin.state == 0
    not_drivable(lamp)


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("IND-04", breaks="chappe.edge.gpio.pins:OutPin.open")
@pytest.mark.parametrize(("safe", "level"), [("low", 0), ("high", 1)])
def test_an_output_is_safe_from_the_first_moment(board: Board, safe: Any, level: int) -> None:
    """Opening drives it to its safe level and to no other."""
    board.pin(5).clear_states()
    before = board.pin(5).state
    board.start(outputs={"siren": Output(pin=5, safe=safe)})
    assert (board.pin(5).function, board.pin(5).state) == ("output", level)
    assert {state.state for state in board.pin(5).states} <= {before, bool(level)}


@pytest.mark.feature("IND-04", breaks="chappe.edge.gpio.pins:OutPin.close")
@pytest.mark.parametrize(("safe", "level"), [("low", 0), ("high", 1)])
def test_an_output_is_safe_before_it_is_released(safe: Any, level: int) -> None:
    """Closing drives it to its safe level while it is still an output."""
    board = Board(MockFactory(pin_class=MockPin))
    edge = board.start(outputs={"siren": Output(pin=5, safe=safe)})
    pin = board.pin(5)
    board.drive("siren", 1.0 - level)
    assert pin.state == 1 - level
    edge.close()
    assert [bool(state.state) for state in pin.states[-2:]] == [bool(1 - level), bool(level)]
    assert pin.function == "input"


@pytest.mark.feature("IND-04", breaks="chappe.edge.gpio:Gpio._failed")
@pytest.mark.parametrize(("safe", "level"), [("low", 0), ("high", 1)])
def test_an_output_that_fails_goes_to_its_safe_level(broken: Board, safe: Any, level: int) -> None:
    """A write that fails is followed by one to the safe level, and told."""
    broken.start(outputs={"siren": Output(pin=5, safe=safe)})
    broken.drive("siren", 1.0 - level)
    broken.pin(5).fail_once = True
    broken.drive("siren", 1.0 - level)
    assert broken.pin(5).state == level
    (fault,) = [event for event in broken.events if isinstance(event, Faulted)]
    assert (fault.part, fault.code) == ("gpio", "gpio_failed")
    assert fault.message.startswith("pin 5 (siren): ")


def test_an_output_is_fully_on_or_off(board: Board) -> None:
    """A rule's pulse is never a duty cycle."""
    board.start(outputs={"siren": Output(pin=5)})
    board.drive("siren", 0.7)
    assert board.pin(5).state == 1
    assert board.pin(5).frequency is None


# ── pins that fail ───────────────────────────────────────────────────────────────────────────────────────────────────


class FragilePin(MockPWMPin):
    """A pin whose writes fail when told to."""

    broken = False
    fail_once = False

    def _set_state(self, value: float) -> None:
        if self.broken or self.fail_once:
            self.fail_once = False
            raise OSError(121, "Remote I/O error")
        super()._set_state(value)


@pytest.fixture
def broken() -> Iterator[Board]:
    one = Board(MockFactory(pin_class=FragilePin))
    yield one
    if one.edge is not None:
        one.edge.close()


def test_a_pin_that_is_taken_is_named_and_the_others_go_on(board: Board) -> None:
    """One fault tells every pin that could not be had."""
    edge = board.start(Indicators(status=17, green=17, red=23), {"siren": Output(pin=23)}, {"main": 26})
    (fault,) = [event for event in board.events if isinstance(event, Faulted)]
    assert fault.code == "gpio_failed"
    assert "pin 17 (green): " in fault.message
    assert "pin 23 (siren): " in fault.message
    board.drive("status", 1.0)
    board.drive("green", 1.0)
    assert board.pin(17).state == 1
    assert edge.counts == {"failed": 1}
    board.pin(26).drive_low()
    assert board.events[1:] == [ButtonEdge(at=Ns(0), button="main", down=True)]


def test_a_pin_that_the_board_does_not_have_is_a_fault(board: Board) -> None:
    """BCM 53 is on no header."""
    board.start(Indicators(status=53), buttons={"main": 52})
    (fault,) = [event for event in board.events if isinstance(event, Faulted)]
    assert "pin 53 (status)" in fault.message
    assert "pin 52 (main)" in fault.message


def test_an_output_named_like_a_lamp_is_refused(board: Board) -> None:
    """A name means one pin, or an effect would drive the wrong one."""
    edge = board.start(Indicators(status=17), {"status": Output(pin=5)})
    assert board.faults() == [("gpio", "gpio_failed")]
    assert edge.pins() == {"status": 17}


def test_a_pin_that_works_again_is_told_once_all_do(broken: Board) -> None:
    """The fault is healed when the last failing pin obeys."""
    edge = broken.start(Indicators(status=17, green=22))
    broken.pin(17).broken = broken.pin(22).broken = True
    broken.drive("status", 1.0)
    broken.drive("green", 1.0)
    broken.pin(17).broken = False
    broken.drive("status", 1.0)
    assert not any(isinstance(event, Healed) for event in broken.events)
    broken.pin(22).broken = False
    broken.clock.at = 5
    broken.drive("green", 1.0)
    assert broken.events[2:] == [Healed(at=Ns(5), part="gpio", code="gpio_failed")]
    assert edge.counts == {"failed": 2}
    assert broken.pin(17).state == broken.pin(22).state == 1


def test_a_pin_that_fails_at_the_end_does_not_keep_the_others_from_closing(broken: Board) -> None:
    """Every pin is released whatever one of them does."""
    edge = broken.start(Indicators(status=17), {"siren": Output(pin=5)})
    broken.drive("siren", 1.0)
    pins = [broken.pin(17), broken.pin(5)]
    pins[0].broken = True
    edge.close()
    assert [pin.function for pin in pins] == ["input", "input"]
    assert pins[1].state == 0


# ── buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_bounce_of_a_contact_is_an_event(board: Board) -> None:
    """Ten edges within 25 ms are ten events with their times; what is one press is decided in the core."""
    board.start(buttons={"main": 26})
    pin = board.pin(26)
    for edge in range(10):
        board.clock.at = 1_000 * MILLISECOND + edge * 25 * MILLISECOND // 10
        (pin.drive_low if edge % 2 == 0 else pin.drive_high)()
    assert board.events == [
        ButtonEdge(at=Ns(1_000 * MILLISECOND + edge * 25 * MILLISECOND // 10), button="main", down=edge % 2 == 0)
        for edge in range(10)
    ]


@given(st.lists(st.booleans(), max_size=30))
def test_edges_alternate_whatever_the_contact_does(levels: list[bool]) -> None:
    """No change is lost, none is told twice."""
    board = Board(mock_factory())
    edge = board.start(buttons={"main": 26})
    pin = board.pin(26)
    for high in levels:
        (pin.drive_high if high else pin.drive_low)()
    told = [event.down for event in board.events if isinstance(event, ButtonEdge)]
    history = [True, *levels]
    assert told == [not now for before, now in zip(history, levels, strict=False) if before != now]
    edge.close()


def test_a_button_held_at_the_start_is_told(board: Board) -> None:
    """Pressed while the daemon starts: a press begins now; released: it ends."""
    pressed = type("Pressed", (MockPWMPin,), {"_get_state": lambda pin: pin.held and pin._state, "held": False})
    pin = board.factory.pin(26, pin_class=pressed)
    board.start(buttons={"main": 26, "other": 19})
    assert board.events == [ButtonEdge(at=Ns(0), button="main", down=True)]
    pin.drive_low()
    pin.drive_high()
    assert board.events[1:] == [ButtonEdge(at=Ns(0), button="main", down=False)]


def test_a_button_is_pulled_up_and_not_debounced(board: Board) -> None:
    """It is wired to ground; gpiozero does not swallow edges."""
    board.start(buttons={"main": 26})
    assert (board.pin(26).pull, board.pin(26).bounce, board.pin(26).function) == ("up", None, "input")
    assert board.events == []


def test_buttons_are_told_apart(board: Board) -> None:
    """Each edge carries its button's name."""
    board.start(buttons={"main": 26, "aux": 19})
    board.pin(19).drive_low()
    board.pin(26).drive_low()
    assert [event.button for event in board.events if isinstance(event, ButtonEdge)] == ["aux", "main"]


def test_a_closed_button_is_silent(board: Board) -> None:
    """After the end no edge arrives."""
    edge = board.start(buttons={"main": 26})
    pin = board.pin(26)
    edge.close()
    pin.drive_low()
    assert board.events == []


# ── machines without pins, and which library ─────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("IND-05", breaks="chappe.edge.gpio:Gpio._fault")
def test_without_a_chip_everything_runs_and_a_fault_says_so(board: Board) -> None:
    """Lamps and outputs can still be looked at; the fault is told once."""
    edge = board.start(Indicators(status=17), {"siren": Output(pin=5)}, {"main": 26}, factory=no_chip)
    assert board.faults() == [("gpio", "gpio_missing")]
    board.drive("status", 0.5)
    board.drive("siren", 1.0)
    assert edge.levels() == {"status": 0.5, "siren": 1.0}


def test_without_configured_pins_nothing_is_missing(board: Board) -> None:
    """A device without lamps and buttons has no fault, and needs no GPIO library."""

    def never() -> Any:
        raise AssertionError("no pin, no factory")

    edge = board.start(factory=never)
    assert board.events == []
    assert edge.levels() == {}
    edge.close()


def test_a_machine_without_a_chip_has_no_pins(tmp_path: Path) -> None:
    """No ``/dev/gpiochip*``, no environment: the factory says what is missing."""
    with pytest.raises(EdgeError, match="no GPIO chip") as caught:
        pin_factory({}, tmp_path)
    assert caught.value.code == "gpio_missing"


def test_the_environment_chooses_the_factory(tmp_path: Path) -> None:
    """GPIOZERO_PIN_FACTORY is respected as gpiozero does, in any spelling; each call gives a factory of its own."""
    first, second = (pin_factory({"GPIOZERO_PIN_FACTORY": name}, tmp_path) for name in ("mock", "MOCK"))
    assert isinstance(first, MockFactory)
    assert first is not second


def test_pins_chosen_by_the_environment_count_as_real(board: Board, tmp_path: Path) -> None:
    """With mock pins asked for, nothing is missing, and the privacy lamp can be driven."""
    edge = board.start(Indicators(privacy=27), factory=lambda: pin_factory({"GPIOZERO_PIN_FACTORY": "mock"}, tmp_path))
    privacy_lamp(edge).on()
    assert edge.levels() == {"privacy": 1.0}
    assert board.events == []


@pytest.mark.parametrize("name", ["nonsense", "rpigpio"])
def test_a_factory_that_cannot_be_had_is_told(name: str, tmp_path: Path) -> None:
    """A wrong name, or a library that is not installed."""
    with pytest.raises(EdgeError, match="cannot be used") as caught:
        pin_factory({"GPIOZERO_PIN_FACTORY": name}, tmp_path)
    assert caught.value.code == "gpio_missing"


@pytest.fixture
def lgpio(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """A stand-in for the lgpio library; the list holds the environment at each construction."""
    made: list[dict[str, str]] = []

    class Fake(MockFactory):
        def __init__(self) -> None:
            made.append(dict(FAKE_ENV))
            if FAKE_ENV.get("fail"):
                raise sys.modules["lgpio"].error("can not open gpiochip")
            super().__init__(pin_class=MockPWMPin)

    module = ModuleType("gpiozero.pins.lgpio")
    module.LGPIOFactory = Fake  # type: ignore[attr-defined]
    library = ModuleType("lgpio")
    library.error = type("error", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gpiozero.pins.lgpio", module)
    monkeypatch.setitem(sys.modules, "lgpio", library)
    FAKE_ENV.clear()
    return made


FAKE_ENV: dict[str, str] = {}


def test_with_a_chip_lgpio_is_used_and_given_a_folder(lgpio: list[dict[str, str]], tmp_path: Path) -> None:
    """Its pipes go to the runtime folder, not to wherever the daemon was started."""
    (tmp_path / "gpiochip0").touch()
    FAKE_ENV["RUNTIME_DIRECTORY"] = f"{tmp_path}:/elsewhere"
    assert isinstance(pin_factory(FAKE_ENV, tmp_path), MockFactory)
    assert [env["LG_WD"] for env in lgpio] == [str(tmp_path)]


@pytest.mark.usefixtures("lgpio")
def test_a_folder_that_the_owner_chose_stays(tmp_path: Path) -> None:
    """LG_WD is only set where it is not."""
    (tmp_path / "gpiochip0").touch()
    FAKE_ENV["LG_WD"] = "/chosen"
    pin_factory(FAKE_ENV, tmp_path, tmp_path)
    assert FAKE_ENV["LG_WD"] == "/chosen"


@pytest.mark.usefixtures("lgpio")
def test_a_folder_that_is_not_there_is_not_used(tmp_path: Path) -> None:
    """lgpio gets no folder it cannot write into."""
    (tmp_path / "gpiochip0").touch()
    pin_factory(FAKE_ENV, tmp_path, tmp_path / "none")
    assert "LG_WD" not in FAKE_ENV


@pytest.mark.usefixtures("lgpio")
def test_a_chip_that_may_not_be_opened_is_missing(tmp_path: Path) -> None:
    """lgpio's own error, which has no root of use, becomes ours with a remedy."""
    (tmp_path / "gpiochip0").touch()
    FAKE_ENV["fail"] = "yes"
    with pytest.raises(EdgeError, match="can not open gpiochip") as caught:
        pin_factory(FAKE_ENV, tmp_path)
    assert caught.value.code == "gpio_missing"
    assert "group gpio" in caught.value.remedy


def test_a_chip_without_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where lgpio is not installed the remedy names the package."""
    (tmp_path / "gpiochip0").touch()
    monkeypatch.setitem(sys.modules, "gpiozero.pins.lgpio", None)
    with pytest.raises(EdgeError) as caught:
        pin_factory({}, tmp_path)
    assert caught.value.code == "gpio_missing"
    assert "python3-lgpio" in caught.value.remedy


# ── open, close, test ────────────────────────────────────────────────────────────────────────────────────────────────


def everything(board: Board) -> Gpio:
    return board.start(Indicators(status=17, privacy=27), {"siren": Output(pin=5)}, {"main": 26})


def test_close_releases_every_pin(board: Board) -> None:
    """After the end the same pins can be had again, by anybody; closing twice is no error."""
    edge = everything(board)
    edge.close()
    edge.close()
    assert edge.levels() == {}
    again = everything(board)
    assert board.events == []
    assert set(again.pins()) == {"status", "privacy", "siren"}


def test_the_library_is_imported_when_pins_are_opened() -> None:
    """The command line and a device without pins do not pay for gpiozero."""
    script = "import sys, chappe.edge.gpio; print('gpiozero' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_an_edge_that_never_opened_can_be_closed_and_asked(board: Board) -> None:
    """Nothing is claimed before `open`."""
    edge = Gpio(Indicators(status=17, privacy=27), {}, {}, clock=board.clock, post=board.events.append, factory=no_chip)
    assert edge.levels() == {}
    not_drivable(privacy_lamp(edge))
    edge.close()
    assert board.events == []


def test_effects_after_close_are_counted(board: Board) -> None:
    """A late effect drives nothing and raises nothing."""
    edge = everything(board)
    edge.close()
    board.drive("status", 1.0)
    assert edge.counts == {"unknown": 1}


def test_no_thread_is_started_and_the_global_factory_stays(board: Board) -> None:
    """gpiozero's holding and blinking threads are not used, nor is its global default changed."""
    threads, default = set(threading.enumerate()), gpiozero.Device.pin_factory
    everything(board)
    board.drive("status", 0.5)
    board.pin(26).drive_low()
    assert set(threading.enumerate()) == threads
    assert gpiozero.Device.pin_factory is default


@pytest.mark.feature("IND-04", breaks="chappe.edge.gpio:Gpio.pulse")
def test_a_pulse_drives_one_pin_for_half_a_second(board: Board) -> None:
    """`gpio test` sees each pin go on, half a second later as before; an output that rests high goes low."""
    edge = board.start(Indicators(status=17, privacy=27), {"siren": Output(pin=5), "relay": Output(pin=6, safe="high")})
    board.drive("status", 0.25)
    seen: list[tuple[float, dict[str, float]]] = []
    before = edge.levels()
    for name in edge.pins():
        edge.pulse(name, lambda span: seen.append((span, edge.levels())))
        assert edge.levels() == before
    assert [span for span, _ in seen] == [0.5] * 4
    assert [levels for _, levels in seen] == [
        before | {"status": 1.0},
        before | {"privacy": 1.0},
        before | {"siren": 1.0},
        before | {"relay": 0.0},
    ]


def test_a_pulse_on_an_unknown_pin_names_the_known_ones(board: Board) -> None:
    """A typing error on the command line is met with what there is."""
    edge = everything(board)
    with pytest.raises(EdgeError) as caught:
        edge.pulse("sirene", lambda _span: None)
    assert caught.value.remedy == "there are: status, privacy, siren"


def test_a_pulse_on_a_pin_that_fails_says_which(broken: Board) -> None:
    """The command line gets the pin's number and the reason."""
    edge = broken.start(Indicators(status=17))
    broken.pin(17).broken = True
    with pytest.raises(EdgeError, match=r"pin 17 \(status\) cannot be driven: .*Remote I/O error"):
        edge.pulse("status", lambda _span: None)
