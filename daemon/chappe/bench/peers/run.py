"""The same faults and the same load for the peers, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from chappe.bench.outage.counter import Arrival, Counter
from chappe.bench.outage.disk import Disk, can_cut
from chappe.bench.outage.judge import Figures
from chappe.bench.outage.link import Link
from chappe.bench.outage.plan import SECOND_NS, Plan, hold, now
from chappe.bench.outage.scratch import scratch_folder
from chappe.bench.peers import storages
from chappe.bench.peers.base import Peer, Site
from chappe.bench.peers.bridge import Bridge
from chappe.bench.peers.install import NotInstalledError
from chappe.bench.peers.mqttio import MqttIo
from chappe.bench.peers.nodered import NodeRed
from chappe.edge.broker import LocalBroker
from chappe.errors import EdgeError

Make = Callable[[Path], Peer]

PEERS: dict[str, Make] = {
    "bridge": Bridge,
    "bridge-best": lambda folder: Bridge(folder, best=True),
    "node-red": NodeRed,
    "mqtt-io": MqttIo,
}
SCENARIOS = ("refused", "black_hole", "kill_outage", "power_cut")
_COMES_UP_S = 90.0


def measure(name: str, scenarios: Sequence[str], plan: Plan, home: Path, *, kernel: bool) -> Iterator[Figures]:
    """One peer through every scenario; a peer that cannot be installed gives one line that says so.

    Args:
        name: of `PEERS`, or ``thingsboard``.
        scenarios: of `SCENARIOS`.
        plan: times and load.
        home: where peers are installed.
        kernel: whether black holes are made in the kernel.
    """
    if name == "thingsboard":
        yield from _storages(scenarios, plan, home / name)
        return
    peer = PEERS[name](home / name)
    try:
        version = peer.install()
    except NotInstalledError as error:
        yield Figures(scenario="-", subject=peer.name, qos=peer.qos, note=f"not installed: {error}")
        return
    for scenario in scenarios:
        if scenario == "power_cut" and not can_cut():
            yield Figures(scenario=scenario, subject=peer.name, qos=peer.qos, note="not run: needs root")
            continue
        figures = _attempt(PEERS[name](home / name), scenario, plan, kernel=kernel)
        figures.subject = f"{peer.name} {version}"
        yield figures


def _attempt(peer: Peer, scenario: str, plan: Plan, *, kernel: bool) -> Figures:
    peer.install()
    try:
        return one(peer, scenario, plan, kernel=kernel)
    except EdgeError as error:
        return Figures(scenario=scenario, subject=peer.name, qos=peer.qos, note=f"failed: {error}")


def _storages(scenarios: Sequence[str], plan: Plan, packages: Path) -> Iterator[Figures]:
    try:
        version = storages.ready(packages)
    except NotInstalledError as error:
        yield Figures(scenario="-", subject="thingsboard-gateway storages", qos="-", note=f"not installed: {error}")
        return
    for scenario in (each for each in scenarios if each in storages.SCENARIOS):
        for kind in storages.KINDS:
            with scratch_folder() as scratch, ExitStack() as stack:
                cut = scenario == "power_cut"
                if cut and not can_cut():
                    yield Figures(scenario=scenario, subject=f"storage {kind}", qos="-", note="not run: needs root")
                    continue
                disk = stack.enter_context(Disk(scratch)) if cut else None
                figures = storages.measure(packages, kind, scenario, plan, scratch, disk)
                figures.subject += f" {version}"
                yield figures


def one(peer: Peer, scenario: str, plan: Plan, *, kernel: bool) -> Figures:
    """One fault for an installed peer: clean traffic, the fault, and what the counter got when all is over."""
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        disk = stack.enter_context(Disk(scratch)) if scenario == "power_cut" else None
        (scratch / "broker").mkdir()
        broker = stack.enter_context(LocalBroker(scratch / "broker", kind="mosquitto"))
        link = stack.enter_context(Link(broker.port, kernel=kernel))
        counter = stack.enter_context(Counter(broker.port, peer.topics))
        state = (disk.mount if disk is not None else scratch) / "peer"
        state.mkdir()
        stack.callback(peer.close)
        peer.settle_in(Site(state, scratch, link.host, link.port))
        peer.start()
        peer.feed(plan.rate_hz)
        if not counter.wait_for(lambda arrivals: bool(numbers(peer, arrivals)), _COMES_UP_S):
            raise EdgeError(f"nothing came through {peer.name}: {peer.last_words()}")
        hold(plan.clean_s)
        recovered = _fault(peer, scenario, plan, link, disk)
        taken = peer.accepted.numbers()
        counter.settle(lambda arrivals: taken <= set(numbers(peer, arrivals)), plan.silence_s)
        return _figures(peer, scenario, counter.arrivals, recovered)


def _fault(peer: Peer, scenario: str, plan: Plan, link: Link, disk: Disk | None) -> int:
    """Do it, and undo it; returns when the path was whole again."""
    if scenario == "black_hole":
        link.hole()
    else:
        link.refuse()
    hold(plan.outage_s)
    if scenario in ("kill_outage", "power_cut"):
        if disk is not None:
            disk.cut()
        peer.kill()
        peer.rest()
        if disk is not None:
            disk.restore()
        link.heal()
        peer.start()
        return now()
    link.heal()
    recovered = now()
    hold(plan.tail_s)
    peer.rest()
    return recovered


def numbers(peer: Peer, arrivals: Sequence[Arrival]) -> list[int]:
    """The numbers that arrived, in order."""
    return [number for arrival in arrivals if (number := peer.number(arrival.payload)) >= 0]


def _figures(peer: Peer, scenario: str, arrivals: Sequence[Arrival], recovered: int) -> Figures:
    got = [(arrival.topic, number, arrival.at) for arrival in arrivals if (number := peer.number(arrival.payload)) >= 0]
    distinct = {number: at for _, number, at in reversed(got)}
    taken = peer.accepted.numbers()
    figures = Figures(scenario=scenario, subject=peer.name, qos=peer.qos, note=f"accepted: {peer.accepted_means}")
    figures.offered = peer.offered.count
    figures.accepted = len(taken | set(distinct))
    figures.lost = len(taken - set(distinct))
    figures.repeats = len(got) - len(distinct)
    figures.disorder = disorder([(topic, number) for topic, number, _ in got])
    after = [at for at in distinct.values() if at > recovered]
    if after:
        figures.first_s = round((min(after) - recovered) / SECOND_NS, 2)
    backlog = [at for number, at in distinct.items() if at > recovered and peer.offered.at(number) <= recovered]
    if backlog:
        figures.drain_s = round((max(backlog) - recovered) / SECOND_NS, 2)
    return figures


def disorder(got: Sequence[tuple[str, int]]) -> int:
    """How many first copies came behind a higher number of their topic."""
    seen: set[int] = set()
    highest: dict[str, int] = {}
    wrong = 0
    for topic, number in got:
        if number not in seen:
            seen.add(number)
            wrong += number < highest.get(topic, -1)
            highest[topic] = max(number, highest.get(topic, -1))
    return wrong
