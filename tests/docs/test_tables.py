"""What the pages say in tables and samples is what the program has and sends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from chappe import checks
from chappe.core import effects, events, settings
from chappe.core.books import Book
from chappe.core.elision import PolicyName
from chappe.core.elision.config import PARAMETERS
from chappe.core.envelope import Lost, to_json
from chappe.core.indicators import State, flashes
from chappe.core.labels import LABELS
from chappe.core.streams import RESERVED
from chappe.core.topics import Topics
from chappe.core.verdicts import VERDICTS
from chappe.errors import CameraError, ModelError, SensorError
from chappe.run import ROUTES, START_ORDER
from chappe.testing import Tower

from .pages import CHECKOUT, Block, code, every_block, sections, table, tables, text_of

TOPICS = text_of("docs/topics.md")
CONFIGURATION = text_of("docs/configuration.md")
TROUBLESHOOTING = text_of("docs/troubleshooting.md")
ARCHITECTURE = text_of("ARCHITECTURE.md")


# ── topics ───────────────────────────────────────────────────────────────────────────────────────────────────────────

LIVELY = """
[camera]
source = "files"
path = "frames"
[signals]
Pointing_Up = "BUY"
[rules.help]
gesture = "Pointing_Up"
alert = "somebody asks for help"
[buttons]
main = 26
[sensors.temperature]
driver = "simulated"
every = "100ms"
unit = "°C"
[streams.temperature]
class = "latest"
elide = { policy = "latest", every = "1s" }
[streams.flash]
class = "transient"
"""


@pytest.fixture(scope="module")
def tower() -> Tower:
    """A device that has done everything there is a topic for, and has stopped."""
    tower = Tower(LIVELY)
    tower.link_up()
    for _ in range(3):
        tower.see("Pointing_Up")
    tower.press()
    tower.advance(0.2)
    tower.press()
    for _ in range(124):
        tower.advance(0.5)
        tower.see("Pointing_Up")
    tower.advance(8)
    tower.ask("identify", {"id": "7"})
    tower.stop()
    return tower


@pytest.mark.parametrize("page", ["README.md", "docs/topics.md"])
def test_the_topics_are_those_of_the_program(page: str) -> None:
    """Every row is a topic of `core.topics`, and no topic is missing."""
    topics = Topics("chappe", "<id>")
    known = {topics.state, topics.info, topics.health, topics.signal, topics.model("<name>"), topics.stream("<name>")}
    known |= {topics.req("<verb>"), topics.res("<verb>"), topics.receipt("<stream>")}
    assert {code(row[0]) for row in table(text_of(page), "topic")} == known


@pytest.mark.parametrize("page", ["README.md", "docs/topics.md"])
def test_direction_retain_and_qos_are_as_sent(page: str, tower: Tower) -> None:
    """Looked up in what a device really sent, or subscribes to."""
    subscribed = {each.filter: each.qos for each in tower.engine.context.topics.subscriptions()}
    for topic, direction, retained, qos, *_ in table(text_of(page), "topic"):
        pattern = re.sub("<(?:name|verb|stream)>", "[^/]+", re.escape(code(topic)).replace("<id>", "tower\\-1"))
        sent = [message for message in tower.published if re.fullmatch(pattern, message.topic)]
        if direction == "in":
            assert not sent
            assert subscribed[re.sub("<(?:verb|stream)>", "+", code(topic).replace("<id>", "tower-1"))] == int(qos)
        else:
            assert {message.retain for message in sent} == {retained == "yes"}, topic
            assert {message.qos for message in sent} == {int(qos.split(",")[0])}, topic


def samples() -> list[Block]:
    return [block for block in every_block("json") if "topic=" in block.info]


def sent_samples() -> list[Block]:
    return [block for block in samples() if "topic=receipt/" not in block.info]


def shape(value: Any, free: bool = False) -> Any:
    """What kind of thing a value is: keys of objects, kinds of elements; numbers are numbers."""
    if isinstance(value, Mapping):
        return {key: shape(inner) for key, inner in value.items()} if not free else "object"
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


# Keys below which the names are the owner's.
NAMES = {"last", "signals"}


def comparable(document: Any) -> Any:
    """A payload without what differs from device to device."""
    if not isinstance(document, dict):
        return document
    return {key: "names" if key in NAMES else shape(value) for key, value in document.items()}


@pytest.mark.parametrize("block", sent_samples(), ids=lambda block: block.info.split("=")[1])
def test_a_sample_has_the_fields_of_a_real_message(block: Block, tower: Tower) -> None:
    """Each key that the page shows is sent with a value of that kind, and no key is left out."""
    topic = block.info.split("topic=")[1]
    sample = json.loads(block.text)
    (real,) = {json.dumps(m.payload) for m in tower.on(f"T/{topic}")[-1:]} or [None]
    assert real is not None, f"nothing was sent on {topic}"
    found = json.loads(real)
    if topic == "health":
        sample["streams"] = sample["streams"]["temperature"]
        found["streams"] = found["streams"]["temperature"]
    if topic == "info":
        sample["streams"], found["streams"] = sample["streams"][:1], found["streams"][:1]
    if topic == "stream/fault":
        sample["data"].pop("message")
        found["data"].pop("message", None)
    assert comparable(sample) == comparable(found)


def test_the_sample_receipt_is_understood() -> None:
    """What the page tells a consumer to say confirms a message, and it has exactly the fields of one."""
    (block,) = [block for block in samples() if block not in sent_samples()]
    stream, said = block.info.split("topic=receipt/")[1], json.loads(block.text)
    tower = Tower(LIVELY)
    tower.link_up()
    for _ in range(said["seq"]):
        tower.engine.context.produce(stream, {"text": "help"})
    tower.advance(1)
    boot = tower.stream(stream)[-1].payload["boot"]
    tower.feed(
        events.Arrived(
            at=tower.clock.now(),
            topic=f"chappe/tower-1/receipt/{stream}",
            body=json.dumps({**said, "boot": boot}).encode(),
        )
    )
    tower.ask("delivery", {"stream": stream, "seq": said["seq"]})
    told = tower.last("T/res/delivery")["data"]
    assert (told["state"], told["by"]) == (said["kind"], {said["kind"]: said["by"]})


def test_every_form_of_a_gap_is_one_and_every_reason_is_the_programs() -> None:
    """The forms are read as the program reads gaps and written the same; the reasons are those that the source gives."""
    forms = [code(row[0]) for row in table(TOPICS, "form of `lost`")]
    for form in forms:
        assert json.loads(to_json(msgspec.json.decode(form, type=Lost))) == json.loads(form)
    listed = {code(row[0]) for row in table(TOPICS, "reason")}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "daemon/chappe/core").rglob("*.py"))
    given = set(re.findall(r'(?:reason=|_all\(\w+, |drop\([^"\n]*, |_dead\([^"\n]*, )"([a-z]+)"', source)) | {"mixed"}
    assert listed == given
    assert {msgspec.json.decode(form, type=Lost).reason for form in forms} <= listed


def test_the_sample_books_balance() -> None:
    """The page's own numbers obey the rule that it states."""
    (health,) = [json.loads(block.text) for block in samples() if block.info.endswith("=health")]
    for book in health["streams"].values():
        assert msgspec.convert(book, Book).balanced


def test_every_kind_of_topic_has_a_sample() -> None:
    """A page that names a topic shows a message of it."""
    shown = {block.info.split("topic=")[1].split("/")[0] for block in samples()}
    named = {code(row[0]).split("/")[2] for row in table(TOPICS, "topic")}
    assert named - {"req"} == shown


def test_every_verb_is_listed(tower: Tower) -> None:
    """The table of verbs is what an unknown verb is told."""
    tower = Tower()
    tower.link_up()
    tower.ask("nonsense")
    known = tower.last("T/res/nonsense")["error"]["message"].partition("known: ")[2].split(", ")
    assert sorted(code(row[0]) for row in table(TOPICS, "verb")) == sorted(known)


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────

SECTIONS = {
    "[device]": (settings.Device,),
    "[site]": (settings.Site,),
    "[mqtt]": (settings.Mqtt,),
    "[camera]": (settings.Camera,),
    "[vision]": (settings.Vision,),
    "[gestures]": (settings.Gestures,),
    "[sensors.NAME]": (settings.Sensor,),
    "[streams.NAME]": (settings.Stream,),
    "[indicators]": (settings.Indicators,),
    "[outputs.NAME]": (settings.Output,),
    "[rules.NAME] and [jobs.NAME]": (settings.Rule, settings.Job),
    "[outbox]": (settings.Outbox,),
    "[history]": (settings.History,),
    "[metrics]": (settings.Metrics,),
    "[health]": (settings.Health,),
    "[requests]": (settings.Requests,),
    "[models]": (settings.Models,),
    "[log]": (settings.Log,),
}


def default(field: msgspec.structs.FieldInfo) -> str | None:
    """A default as the page writes it; None where the page uses words of its own."""
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT:
        return "required"
    if value is None:
        return "unset"
    plain = json.loads(msgspec.json.encode(value, enc_hook=str))
    if isinstance(value, settings.Span):
        plain = str(value)
    return f"`{json.dumps(plain)}`"


def test_every_section_is_on_the_page() -> None:
    """Sections of the program and headings of the page are the same; two are tables of the owner's own names."""
    on_page = {heading for heading in sections(CONFIGURATION) if heading.startswith("[")}
    assert on_page == {*SECTIONS, "[signals]", "[buttons]"}
    named = {re.sub(r"\W.*", "", name) for heading in on_page for name in re.findall(r"\[([a-z.]+)", heading)}
    assert {name.split(".")[0] for name in named} == set(settings.Config.__struct_fields__)


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_on_the_page_with_its_default(heading: str) -> None:
    """No key is missing, none is invented, and defaults are the program's."""
    rows = {code(row[0]): row[1] for row in table(sections(CONFIGURATION)[heading], "key")}
    fields = {field.encode_name: field for kind in SECTIONS[heading] for field in msgspec.structs.fields(kind)}
    assert rows.keys() == fields.keys()
    if heading == "[streams.NAME]":
        return  # what is unset there takes the default of the stream's kind, which the page says in words
    assert rows == {name: default(field) for name, field in fields.items()}


def test_policies_and_their_parameters_are_the_programs() -> None:
    """Each policy's row names what it needs and what it knows besides."""
    rows = {code(row[0]): set(re.findall(r"`(\w+)`", row[2])) for row in table(CONFIGURATION, "policy")}
    assert rows.keys() == set(PolicyName.__args__)
    everywhere = {"max_keys", "key", "bypass"}
    for policy, (required, optional) in PARAMETERS.items():
        assert rows[policy] == {*required, *optional} - everywhere, policy


def test_gestures_and_priorities_are_told_right() -> None:
    """The labels of the models, and the built-in streams' own priorities."""
    assert set(re.findall(r"`([A-Z]\w+_?\w+)`", sections(CONFIGURATION)["[signals]"])) >= set(LABELS) - {"None"}
    told = re.search(
        r"built-in streams ((?:`\w+`,? ?(?:and )?)+)have priorities of\s+their own \(([\d, ]+)\)", CONFIGURATION
    )
    names = re.findall(r"`(\w+)`", told[1])
    assert [RESERVED[name][2] for name in names] == [int(number) for number in told[2].split(",")]


# ── troubleshooting ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_lamps_states_are_in_order_with_their_flashes() -> None:
    """Every state of the program; those that nothing shows yet are named as such."""
    rows = [(code(row[0]), row[1]) for row in table(TROUBLESHOOTING, "state")]
    unused = set(
        re.findall(r"`(\w+)`", re.search(r"^(`updating`.*?)\n\n", TROUBLESHOOTING, re.MULTILINE | re.DOTALL)[1])
    )
    assert [label for label, _ in rows] == [state.label for state in State if state.label not in unused]
    source = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "daemon/chappe/core/parts").glob("*.py"))
    source += (CHECKOUT / "daemon/chappe/core/context.py").read_text(encoding="utf-8")
    assert {label for label in unused if f"State.{label.upper()}" in source} == set()
    for label, pattern in rows:
        count = re.fullmatch(r"(\d) flash(?:es)?", pattern)
        if count:
            assert State[label.upper()].pattern == flashes(int(count[1])), label


def test_items_of_check_are_the_programs() -> None:
    """Id and words of every item, in the order in which they are looked at."""
    assert [(code(row[0]), row[1]) for row in table(TROUBLESHOOTING, "item")] == [
        (item.id, item.about) for item in checks.ITEMS
    ]


# Codes of errors that never become a fault: what `chappe detect` and `chappe check` say about a picture or a camera that is off.
NO_FAULTS = {"picture", "camera_off"}
POSTS = (
    r'code="(\w+)"',
    r'\.fault\([^"]*"(?:(?:config|mqtt)", ")?(\w+)"',
    r'_fault\("(camera_\w+)"',
    r'_faults\.report\(\s*"(\w+)"',
    r'_disk\.code\(\w+, "(\w+)"\)',
    r'Refusal\([^\n]*?"(\w+)"',
    r'^(?:CODE|FAILED|SUBSCRIPTION_REFUSED) = "(\w+)"',
)


def test_every_fault_code_is_on_the_page_and_none_is_invented() -> None:
    """What the source posts as a fault, and what the page explains."""
    package = CHECKOUT / "daemon/chappe"
    files = [
        package / "assembly.py",
        *(file for room in ("core", "edge", "vision") for file in (package / room).rglob("*.py")),
    ]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    listed = {code(row[1]) for row in table(TROUBLESHOOTING, "part")} - {"PART_bug"}
    posted = {name for pattern in POSTS for name in re.findall(pattern, source, re.MULTILINE)}
    posted |= {kind.default_code for kind in (CameraError, SensorError, ModelError)}
    posted |= {reason for verdict, reason in VERDICTS.values() if verdict in {"retry", "dead"}}
    assert len(posted) > 20
    assert {name for name in posted - NO_FAULTS if not name.endswith("_bug")} - listed == set()
    constants = source + "".join(kind.default_code.join('""') for kind in (CameraError, SensorError, ModelError))
    assert {name for name in listed if f'"{name}"' not in constants} == set()


# ── architecture ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_start_order_is_the_programs() -> None:
    """Read it as a list, there and here."""
    line = next(line for line in ARCHITECTURE.splitlines() if line.startswith("`store`, `gpio`"))
    assert tuple(re.findall(r"`(\w+)`", line)) == START_ORDER


def test_the_routes_of_effects_are_the_programs() -> None:
    """Which part carries out which effect; every effect is in the table."""
    told: dict[str, str] = {}
    for row in table(ARCHITECTURE, "effect"):
        told |= dict.fromkeys(re.findall(r"`(\w+)`", row[0]), row[1])
    assert {name: part for name, part in told.items() if part.startswith("`")} == {
        kind.__name__: f"`{part}`" for kind, part in ROUTES.items()
    }
    assert told.keys() == {kind.__name__ for kind in effects.AnyEffect.__args__}


def test_every_event_is_in_the_table() -> None:
    """What can happen, and what becomes of it."""
    told = [name for row in table(ARCHITECTURE, "event") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(told) == sorted(kind.__name__ for kind in events.AnyEvent.__args__)


def test_the_threads_are_those_that_the_source_names() -> None:
    """Every `Worker` and every named thread of the source has a row; those of the figures run outside the daemon."""
    told = {code(row[0]) for row in table(ARCHITECTURE, "thread") if row[0].startswith("`")}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "daemon/chappe").rglob("*.py"))
    named = set(re.findall(r'Worker\(\s*"([\w-]+)"', source)) | set(
        re.findall(r'Thread\((?:[^\n]*\n){0,3}?[^\n]*name="([\w-]+)"', source)
    )
    assert "mqtt" in named
    assert told - {"sensors-DRIVER"} == {name for name in named if not name.startswith("bench-")}


def test_the_import_rule_is_the_linters() -> None:
    """The line of layers is that of pyproject.toml."""
    import tomllib

    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["id"] == "layers")["layers"]
    told = " ".join(re.search(r"`(__main__ > cli[^`]*)`", ARCHITECTURE)[1].split())
    assert [part.replace(", ", " | ") for part in told.split(" > ")] == layers


def test_every_table_has_as_many_cells_as_headings() -> None:
    """A row with a stray bar would be drawn wrong."""
    for page in ("README.md", "ARCHITECTURE.md", "docs/topics.md", "docs/configuration.md", "docs/troubleshooting.md"):
        for headings, rows in tables(text_of(page)):
            assert [row for row in rows if len(row) != len(headings)] == [], page
