"""The parts of `chappe bench outbox` that need no broker: figures, packets, the backlog, counters of what is read and written."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.bench.outage.disk import Disk, can_cut
from chappe.bench.outbox import backlog, begin, children, device, listener, raw, setting, wear
from chappe.bench.outbox.figures import Figure, beside, median
from chappe.config import loads
from chappe.core.effects import Fetch
from chappe.core.envelope import Envelope, to_json
from chappe.core.events import CommitFailed, Event, Fetched
from chappe.core.row import OVERHEAD
from chappe.edge.host import SystemClock
from chappe.edge.store import Store
from chappe.errors import EdgeError, LinkError

# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("least", "most", "ok"),
    [(None, None, True), (5.0, None, True), (5.1, None, False), (None, 5.0, True), (None, 4.9, False)],
)
def test_a_promise_is_kept_up_to_and_including_its_limit(least: float | None, most: float | None, ok: bool) -> None:
    figure = Figure("a", 5.0, "B", least=least, most=most)
    assert figure.ok is ok
    assert figure.data()["ok"] is ok


def test_a_line_names_value_unit_promise_and_spread() -> None:
    figure = median("drain / raw paho", "ratio", [0.5, 0.61, 0.9], least=0.6)
    assert figure.line().split() == [
        *("drain", "/", "raw", "paho", "0.61", "ratio"),
        *("(>=", "0.6:", "ok)", "[0.5", "..", "0.9]"),
    ]
    assert median("wear", "B", [61.0], most=60).line().endswith("61 B  (<= 60: FAILED)")
    assert "12,345 msgs/s" in median("raw", "msgs/s", [12_345.4]).line()


def test_a_figure_for_programs_has_every_round_and_only_the_limits_there_are() -> None:
    data = median("wear", "B", [3.0, 1.0, 2.00004], most=60).data()
    assert data == {"name": "wear", "value": 2.0, "unit": "B", "each": [3.0, 1.0, 2.0], "most": 60, "ok": True}


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_ratio_lies_between_those_to_either_side(value: float, before: float, after: float) -> None:
    """The machine drifts: what stands between two raw runs is compared with both."""
    low, high = sorted((value / before, value / after))
    assert low * 0.999999 <= beside(value, before, after) <= high * 1.000001


# ── what all runs have in common ─────────────────────────────────────────────────────────────────────────────────────


def test_the_envelope_of_a_reading_is_as_long_as_the_payload_of_the_raw_side() -> None:
    data = {"value": setting.FIRST_VALUE + 12_345, "unit": setting.UNIT}
    envelope = Envelope(boot="f" * 16, seq=12_345, at="2026-11-21T21:32:22.123Z", synced=True, data=data)
    assert len(to_json(envelope)) == setting.SIZE == 8 + len(raw.FILLER)


@pytest.mark.parametrize("durability", ["first", "behind", "memory"])
def test_the_configuration_says_window_rate_and_durability(tmp_path: Path, durability: str) -> None:
    config = loads(setting.configuration(tmp_path, 1234, durability=durability)).config
    assert (config.mqtt.port, config.mqtt.window, config.mqtt.drain_rate) == (1234, setting.WINDOW, "max")
    assert config.streams[setting.STREAM].durability == durability
    assert Path(config.device.state_dir) == tmp_path
    # The bench is the only source of readings while it measures, and a million rows have room.
    assert config.sensors[setting.STREAM].every >= 3600 * 1e9
    assert config.outbox.rows > 1_000_000
    assert config.outbox.bytes > 1_000_000 * (setting.SIZE + 120)


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def publish(payload: bytes, mid: int, topic: bytes = b"a/b") -> bytes:
    body = len(topic).to_bytes(2) + topic + (mid.to_bytes(2) if mid else b"") + payload
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | 128 if size else low)
        if not size:
            return bytes([0x32 if mid else 0x30, *length]) + body


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 65_535)), max_size=8),
    st.lists(st.integers(0, 3000), max_size=5),
)
def test_however_the_bytes_are_cut_every_message_is_read_once_and_acknowledged(
    messages: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    """Packets come as the network likes; other packets between them are passed over; QoS 0 gets no PUBACK."""
    stream = b"\xd0\x00".join(publish(*message) for message in messages)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    payloads: list[bytes] = []
    answers = rest = b""
    for start, end in pairwise(edges):
        some, more, rest = listener.read_publishes(rest + stream[start:end])
        payloads += some
        answers += more
    assert rest == b""
    assert payloads == [payload for payload, _ in messages]
    assert answers == b"".join(b"@\x02" + mid.to_bytes(2) for _, mid in messages if mid)


class Peer(threading.Thread):
    """A broker of few words: answers CONNECT and SUBSCRIBE with the given bytes, sends, then notes what it hears."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(daemon=True)
        self.ears = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.ears.getsockname()[1]
        self.answers = answers
        self.heard = b""

    def run(self) -> None:
        with self.ears, self.ears.accept()[0] as link:
            for answer in self.answers:
                self.heard += link.recv(4096)
                link.sendall(answer)
            while more := link.recv(4096):
                self.heard += more


ACCEPT = (b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01")


def test_the_listener_counts_repeats_but_not_as_different() -> None:
    peer = Peer(ACCEPT[0], ACCEPT[1] + publish(b"one", 1) + publish(b"two", 2) + publish(b"one", 3))
    peer.start()
    with listener.Listener(peer.port, "a/#") as heard:
        assert heard.wait(3, 20.0)
        assert (heard.count, heard.distinct, heard.first) == (3, 2, b"one")
        assert heard.first_at is not None
    peer.join(20.0)
    assert peer.heard.endswith(b"@\x02\x00\x01@\x02\x00\x02@\x02\x00\x03\xe0\x00")


def test_the_listener_notes_only_what_it_is_about_and_acknowledges_all() -> None:
    peer = Peer(ACCEPT[0], ACCEPT[1] + publish(b'{"late":true}', 1) + publish(b"{}", 2))
    peer.start()
    with listener.Listener(peer.port, "a/#", b'"late":true') as heard:
        assert heard.wait(1, 20.0)
        assert not heard.wait(2, 0.0)
        assert heard.first == b'{"late":true}'
    peer.join(20.0)
    assert peer.heard.count(b"@\x02\x00") == 2


@pytest.mark.parametrize("answers", [(b"\x20\x02\x00\x05",), (ACCEPT[0], b"\x90\x03\x00\x01\x80")])
def test_a_broker_that_refuses_the_listener_is_an_error_and_no_figure(answers: tuple[bytes, ...]) -> None:
    peer = Peer(*answers)
    peer.start()
    heard = listener.Listener(peer.port, "a/#")
    with pytest.raises(LinkError, match="answers the bench's subscriber"):
        heard.open()
    heard.close()
    peer.join(20.0)


# ── the backlog ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def filled(tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(backlog, "ROWS_PER_COMMIT", 40)
    backlog.fill(tmp_path / "state", 100)
    store = Store(tmp_path / "state", SystemClock(), events.append)
    store.open(threaded=False)
    yield store
    store.close()


def test_a_backlog_is_what_a_boot_that_ended_cleanly_leaves(filled: Store) -> None:
    found = filled.backlog()
    lane = found.lanes[setting.STREAM]
    assert (lane.entry.rows, lane.entry.book.produced, lane.entry.book.queued) == (100, 100, 100)
    assert lane.entry.book.balanced
    assert (lane.boot, lane.entry.seq) == (backlog.BOOT, 100)
    assert lane.last - lane.first == 99
    assert lane.entry.next > lane.last & ((1 << 40) - 1)
    assert found.boots[-1].clean
    assert found.salvaged is None


def test_rows_of_a_backlog_are_whole_in_order_and_late(filled: Store, events: list[Event]) -> None:
    lane = filled.backlog().lanes[setting.STREAM]
    filled.handle([Fetch(stream=setting.STREAM, after=lane.first - 1, upto=lane.last)])
    filled.step(SystemClock().now())
    page = next(event for event in events if isinstance(event, Fetched))
    assert page.bad == 0
    assert [row.seq for row in page.rows] == list(range(1, 101))
    assert all(row.late and row.boot == backlog.BOOT for row in page.rows)
    assert [row.accepted for row in page.rows] == sorted(row.accepted for row in page.rows)
    assert {len(row.data) for row in page.rows} == {len(page.rows[0].data)}
    assert sum(len(row.data) + OVERHEAD for row in page.rows) == lane.entry.bytes


def test_a_backlog_of_nothing_is_an_empty_store(tmp_path: Path) -> None:
    backlog.fill(tmp_path / "state", 0)
    store = Store(tmp_path / "state", SystemClock(), lambda _: None)
    store.open(threaded=False)
    assert store.backlog().lanes == {}
    store.close()


def test_a_backlog_that_could_not_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Store, now: int) -> None:
        self._post(CommitFailed(at=now, number=1, code="store_full", message="no room"))  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "step", fail)
    with pytest.raises(EdgeError, match=r"could not be written.*no room"):
        backlog.fill(tmp_path / "state", 10)


# ── what is read and written ─────────────────────────────────────────────────────────────────────────────────────────


def test_steps_of_sqlite_are_counted_and_grow_with_the_rows_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", sqlite3.connect)
    steps = [0]
    device.count_steps(steps)
    link = sqlite3.connect(tmp_path / "base.db", isolation_level=None)
    link.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data TEXT)")
    link.execute("BEGIN")
    link.executemany("INSERT INTO rows (data) VALUES (?)", [("x",)] * 1000)
    link.execute("COMMIT")

    def cost(question: str) -> int:
        before = steps[0]
        link.execute(question).fetchall()
        return steps[0] - before

    one = cost("SELECT * FROM rows ORDER BY id LIMIT 1")
    assert 0 < one < 100
    assert cost("SELECT * FROM rows ORDER BY id") >= 1000 + one
    link.close()


def test_bytes_read_are_the_kernels_count(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    before = device.read_bytes()
    (tmp_path / "file").read_bytes()
    assert device.read_bytes() - before >= 100_000


def test_bytes_written_by_a_process_are_the_kernels_count(disk_tmp: Path) -> None:
    before = wear.process_bytes(os.getpid())
    with (disk_tmp / "file").open("wb") as file:
        file.write(os.urandom(1_000_000))
        file.flush()
        os.fsync(file.fileno())
    assert wear.process_bytes(os.getpid()) - before >= 1_000_000


@pytest.mark.skipif(not can_cut(), reason="needs root and a loop device")
def test_bytes_to_the_device_are_those_of_the_loop_device_and_its_journal(tmp_path: Path) -> None:
    with Disk(tmp_path) as disk:
        before = wear.device_bytes(disk.mount)
        assert wear.device_bytes(disk.mount) - before < 100_000
        (disk.mount / "file").write_bytes(os.urandom(1_000_000))
        assert 1_000_000 <= wear.device_bytes(disk.mount) - before < 2_000_000


def test_wear_is_bytes_by_messages_with_a_limit_online_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []

    def written(n: int, *, offline: bool) -> int:
        asked.append((n, offline))
        return 61 * n if len(asked) > 1 else 30 * n

    monkeypatch.setattr(wear, "_bytes", written)
    online, outage = wear.measure(seconds=20, rounds=1)
    assert asked == [(4000, False), (4000, True)]
    assert (online.value, online.most, online.ok) == (30.0, wear.MOST_ONLINE, True)
    assert (outage.value, outage.most, outage.ok) == (61.0, None, True)


def test_starts_are_judged_by_ratio_memory_and_seconds() -> None:
    laps = {
        0: [begin.Start(0.5, 20.0), begin.Start(1.0, 21.0), begin.Start(0.4, 20.0)],
        100: [begin.Start(0.6, 25.0), begin.Start(1.3, 26.0), begin.Start(0.6, 31.0)],
        1000: [begin.Start(0.7, 25.0), begin.Start(2.1, 32.0), begin.Start(2.2, 40.0)],
    }
    figures = {figure.name: figure for figure in begin._starts(laps, 100, 1000)}
    ratio = figures["start, 100 rows / empty"]
    assert (ratio.value, ratio.ok) == (1.3, True)
    assert figures["start to first message, 1,000 rows"].value == 2.1
    assert not figures["start to first message, 1,000 rows"].ok
    assert figures["memory while 100 rows drain, over empty"].value == 5.0
    assert figures["memory while 1,000 rows drain, over empty"].value == 11.0
    assert not figures["memory while 1,000 rows drain, over empty"].ok


@pytest.mark.parametrize(("steps", "read", "ok"), [(105, 1050, True), (120, 1000, False), (100, 1200, False)])
def test_reading_more_for_a_longer_backlog_breaks_the_promise(steps: int, read: int, ok: bool) -> None:
    figures = list(begin._reads(begin.Reads(100, 1000), begin.Reads(steps, read), 1_000_000))
    assert all(figure.ok for figure in figures) is ok


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    plan = device.Plan(config=str(tmp_path / "missing.toml"), n=1)
    with pytest.raises(EdgeError, match=r"(?s)did not come to 'warm'.*missing\.toml"):  # noqa: SIM117
        with children.Child(plan, tmp_path) as child:
            child.hear("warm")


def test_a_raw_side_that_fails_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(EdgeError, match="raw side of the bench failed"):
        children.run_raw(port, 1)


def test_a_plan_survives_the_way_to_the_child() -> None:
    plan = device.Plan(config="a.toml", n=7, rate_hz=200, offline=True)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=device.Plan) == plan
