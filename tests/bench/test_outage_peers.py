"""`chappe bench outage --peers`: what is said of a peer is what it did, and a peer that is not there is named."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from chappe.bench.outage.counter import Arrival
from chappe.bench.outage.disk import Disk
from chappe.bench.outage.judge import Figures
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import Plan
from chappe.bench.peers import NAMES, install, storages
from chappe.bench.peers import run as peers
from chappe.bench.peers.base import PAYLOAD, Peer, Site, payload
from chappe.bench.peers.bridge import Bridge
from chappe.bench.peers.feeders import LineFeeder, MqttFeeder
from chappe.bench.peers.mqttio import MqttIo
from chappe.bench.peers.nodered import NodeRed
from chappe.cli import run
from chappe.edge.broker import LocalBroker, find_mosquitto
from chappe.errors import EdgeError

WITHIN_S = 20.0
SHORT = Plan(clean_s=0.3, outage_s=0.5, tail_s=0.3, silence_s=45.0)
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
nightly = pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="installs peers and takes minutes: make nightly")


class Nobody(Peer):
    """A peer of which only the ledgers are used."""

    name = "nobody"

    def install(self) -> str:
        return "1"

    def configure(self) -> None:
        pass

    def command(self) -> Sequence[str]:
        return ["true"]

    def feed(self, rate_hz: int) -> None:
        pass

    def rest(self) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "state").mkdir()
    return Site(tmp_path / "state", tmp_path, "127.0.0.1", 1)


# ── what is counted ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_carries_its_number_in_200_bytes() -> None:
    assert len(payload(17)) == PAYLOAD
    assert Nobody(Path()).number(payload(17)) == 17


def test_lost_is_what_was_accepted_and_did_not_come(site: Site) -> None:
    peer = Nobody(Path())
    peer.settle_in(site)
    for number in range(6):
        peer.offered.enter()
        if number != 4:
            peer.accepted.mark(number)
    recovered = peer.offered.at(5) + 1
    got = [(0, 1), (1, 2), (1, 3), (3, recovered + 2_000_000_000), (4, recovered + 3_000_000_000)]
    figures = peers._figures(peer, "refused", [Arrival(at, "bench/n", payload(n)) for n, at in got], recovered)
    # Number 4 came although its acknowledgement did not: it counts as accepted, not as lost.
    assert (figures.offered, figures.accepted, figures.lost, figures.repeats) == (6, 6, 2, 1)
    assert (figures.first_s, figures.drain_s) == (2.0, 3.0)
    peer.close()


def test_order_is_judged_within_a_topic_and_first_copies_alone() -> None:
    assert peers.disorder([("a", 1), ("b", 9), ("a", 2), ("b", 8), ("a", 1), ("a", 4), ("a", 3)]) == 2


def test_a_storage_is_judged_by_what_it_gives_back() -> None:
    figures = storages._figures("storage", "kill_outage", 6, {0, 1, 2, 3}, [0, 2, 1, 1])
    assert (figures.offered, figures.accepted, figures.lost, figures.repeats, figures.disorder) == (6, 4, 1, 1, 1)


# ── who feeds them ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ledgers(tmp_path: Path) -> list[Ledger]:
    return [Ledger(tmp_path / name).open() for name in ("offered", "accepted")]


def wait_until(ledger: Ledger, count: int) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if ledger.count >= count:
            return
        tick.wait(0.01)
    pytest.fail(f"only {ledger.count} of {count}")


@needs_mosquitto
def test_only_what_was_acknowledged_is_accepted_by_mqtt(tmp_path: Path, ledgers: list[Ledger]) -> None:
    offered, accepted = ledgers
    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        feeder = MqttFeeder(broker.port, 500, offered, accepted)
        feeder.start()
        wait_until(accepted, 50)
        broker.kill()
        tick = threading.Event()
        stood = -1
        while stood != offered.count:
            stood = offered.count
            tick.wait(0.3)
        feeder.stop()
    assert offered.count >= accepted.count >= 50
    assert accepted.numbers() == set(range(len(accepted.numbers())))


def test_lines_are_accepted_once_written_and_offered_only_while_connected(ledgers: list[Ledger]) -> None:
    offered, accepted = ledgers
    with socket.create_server(("127.0.0.1", 0)) as server:
        feeder = LineFeeder(server.getsockname()[1], 500, offered, accepted)
        assert offered.count == 0
        feeder.start()
        peer, _ = server.accept()
        with peer, peer.makefile("rb") as lines:
            assert [int(lines.readline()[:8]) for _ in range(20)] == list(range(20))
        feeder.stop()
    assert offered.count >= accepted.count >= 20


# ── how they are installed and set up ────────────────────────────────────────────────────────────────────────────────


def test_the_command_knows_every_peer() -> None:
    assert set(NAMES) == {*peers.PEERS, "thingsboard"}


def test_a_peer_that_cannot_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never silently missing: a line each, with the reason, and the run goes on."""

    def fail(*words: str) -> None:
        raise install.NotInstalledError(f"`{words[0]}` is broken")

    monkeypatch.setattr(install, "_run", fail)
    monkeypatch.setattr(install, "shutil", SimpleNamespace(which=lambda name: f"/{name}"))
    words = ["bench", "outage", "--peers-dir", str(tmp_path), "--scenario", "refused", "--json"]
    assert run([*words, "--peer", "node-red", "--peer", "mqtt-io", "--peer", "thingsboard"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [line["subject"].split(",")[0] for line in lines] == ["Node-RED", "mqtt-io", "thingsboard-gateway storages"]
    assert all(line["note"].startswith("not installed: ") and "is broken" in line["note"] for line in lines)


def test_node_red_needs_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "shutil", SimpleNamespace(which=lambda _: None))
    with pytest.raises(install.NotInstalledError, match=r"node or npm is missing .*apt install nodejs npm"):
        install.node_red(tmp_path)


def test_versions_are_pinned_and_an_installed_peer_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []

    def note(*words: str) -> None:
        said.append(words[-1])
        (tmp_path / "mio").mkdir(exist_ok=True)

    monkeypatch.setattr(install, "_run", note)
    (tmp_path / "tb").mkdir()
    for _ in range(2):
        assert install.mqtt_io(tmp_path / "mio") == tmp_path / "mio" / "bin" / "python"
        install.thingsboard(tmp_path / "tb")
    assert said == [str(tmp_path / "mio"), f"mqtt-io=={install.MQTT_IO}", install.THINGSBOARD_NEEDS[-1]]


def test_a_client_that_fails_gives_its_last_word() -> None:
    with pytest.raises(install.NotInstalledError, match="no matching version"):
        install._run("sh", "-c", "echo first; echo 'no matching version' >&2; exit 1")


def test_the_best_bridge_differs_from_the_default_one_by_four_settings(site: Site) -> None:
    texts = []
    for best in (False, True):
        bridge = Bridge(Path(), best=best)
        bridge.settle_in(site)
        texts.append((site.state / "bridge.conf").read_text("utf-8").splitlines())
        bridge.close()
    default, best_lines = ({line for line in text if not line.startswith("listener")} for text in texts)
    assert default < best_lines
    assert {line.split()[0] for line in best_lines - default} == {
        "max_queued_messages",
        "autosave_interval",
        "restart_timeout",
        "keepalive_interval",
    }


def test_node_red_sends_at_qos_1_with_a_session(site: Site) -> None:
    peer = NodeRed(Path())
    peer.settle_in(site)
    flow = {node["type"]: node for node in json.loads((site.state / "flows.json").read_text("utf-8"))}
    assert flow["mqtt out"]["qos"] == "1"
    assert flow["mqtt-broker"]["cleansession"] is False
    assert flow["tcp in"]["wires"] == [[flow["mqtt out"]["id"]]]
    peer.close()


def test_mqtt_io_has_a_sensor_for_each_message_of_a_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = MqttIo(Path())
    peer.settle_in(site)
    started: list[str] = []
    monkeypatch.setattr(Peer, "start", lambda self: started.append(self.name))
    peer.start()
    assert started == []
    peer.feed(30)
    assert started == [peer.name]
    settings = json.loads((site.state / "config.yml").read_text("utf-8"))
    assert len(settings["sensor_inputs"]) == 30
    assert {each["interval"] for each in settings["sensor_inputs"]} == {1}
    assert peer._pause.exists()
    peer.rest()
    assert not peer._pause.exists()
    peer.start()
    assert len(started) == 2
    assert (peer.number(b"17"), peer.number(b"running")) == (17, -1)
    peer.close()


def test_a_peer_that_ended_by_itself_is_an_error(site: Site) -> None:
    peer = Nobody(Path())
    peer.settle_in(site)
    peer.start()
    assert peer._process is not None
    peer._process.wait(WITHIN_S)
    with pytest.raises(EdgeError, match="nobody ended by itself"):
        peer.kill()
    peer.close()


# ── and what they do ─────────────────────────────────────────────────────────────────────────────────────────────────


@needs_mosquitto
def test_a_bridge_of_defaults_forgets_its_queue_at_a_kill() -> None:
    """The measurement finds the loss that is there: what it took in the outage was in memory alone."""
    peer = Bridge(Path())
    # What is lost is known at once: nothing can come from a file that was never written.
    figures = peers.one(peer, "kill_outage", Plan(clean_s=0.3, outage_s=0.5, silence_s=0.5), kernel=False)
    assert figures.accepted >= 50
    assert figures.lost > 0


@nightly
@pytest.mark.parametrize("name", ["bridge-best", "node-red", "mqtt-io"])
def test_every_peer_survives_its_own_measurement(name: str, tmp_path: Path) -> None:
    lines = list(peers.measure(name, ["refused", "black_hole", "kill_outage"], SHORT, tmp_path, kernel=False))
    assert [line.scenario for line in lines] == ["refused", "black_hole", "kill_outage"]
    assert all("failed" not in line.note for line in lines), lines
    assert all(line.accepted > 50 for line in lines)


@nightly
def test_every_storage_gives_back_what_it_says(tmp_path: Path) -> None:
    lines = list(peers.measure("thingsboard", ["refused", "kill_outage"], SHORT, tmp_path, kernel=False))
    lost = {(line.subject.split()[2], line.scenario): line.lost for line in lines}
    assert len(lines) == 6
    assert lost["memory", "refused"] == lost["file", "refused"] == lost["sqlite", "refused"] == 0
    assert lost["memory", "kill_outage"] == lines[3].accepted > 50
    assert lost["file", "kill_outage"] == 0


def test_a_power_cut_without_root_is_said_not_to_have_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "can_cut", lambda: False)
    monkeypatch.setitem(peers.PEERS, "bridge", Nobody)
    monkeypatch.setattr(storages, "ready", lambda _: "1")
    lines = list(peers.measure("bridge", ["power_cut"], SHORT, tmp_path, kernel=False))
    lines += list(peers.measure("thingsboard", ["power_cut"], SHORT, tmp_path, kernel=False))
    assert [line.note for line in lines] == ["not run: needs root"] * 4


def test_a_peer_that_fails_gives_a_line_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> Figures:
        raise EdgeError("it fell over")

    monkeypatch.setitem(peers.PEERS, "bridge", Nobody)
    monkeypatch.setattr(peers, "one", fail)
    lines = list(peers.measure("bridge", ["refused", "kill_outage"], SHORT, tmp_path, kernel=False))
    assert [(line.subject, line.note) for line in lines] == [("nobody 1", "failed: it fell over")] * 2


@needs_mosquitto
def test_the_disk_is_not_asked_for_where_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "open", lambda _: pytest.fail("a disk was mounted"))
    monkeypatch.setattr(peers, "_COMES_UP_S", 0.1)
    with pytest.raises(EdgeError, match="nothing came through"):
        peers.one(Nobody(Path()), "refused", SHORT, kernel=False)
