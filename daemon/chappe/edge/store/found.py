"""What a boot finds in the outbox's file. Nothing here looks at more than the ends of a stream's rows."""

from __future__ import annotations

from collections.abc import Iterable

from chappe.core.envelope import Lost
from chappe.core.stored import Backlog, BootFound, DeadRow, LaneEntry, LaneFound, Standing
from chappe.core.units import Ns
from chappe.edge.store import codec
from chappe.edge.store.base import Base, span
from chappe.edge.store.reading import read_letter


def backlog(base: Base, boot: str = "", salvaged: int | None = None) -> Backlog:
    """Everything of earlier boots.

    Args:
        base: the open file.
        boot: this boot, which is not among the earlier ones.
        salvaged: how many rows were salvaged just now, None where nothing was corrupt.

    Raises:
        sqlite3.Error: if the file is corrupt or cannot be read.
    """
    with codec.legible(), codec.believable():
        lanes, corrupt = _lanes(base)
        dead = _dead(base)
        return Backlog(
            kernel=base.kernel,
            lanes=lanes,
            boots=tuple(one for one in _boots(base, lanes.values(), dead) if one.boot != boot),
            dead=dead,
            receipts=_standings(base),
            corrupt=corrupt,
            salvaged=salvaged,
        )


def _lanes(base: Base) -> tuple[dict[str, LaneFound], dict[str, Lost]]:
    lanes: dict[str, LaneFound] = {}
    corrupt: dict[str, Lost] = {}
    for record in base.link.execute(f"SELECT {codec.LANE_COLUMNS} FROM lanes ORDER BY no").fetchall():  # noqa: S608 - names of ours
        stream, entry, lost = codec.unpack_lane(record)
        lanes[stream] = _lane(base, entry)
        if lost is not None:
            corrupt[stream] = lost
    return lanes, corrupt


def _lane(base: Base, entry: LaneEntry) -> LaneFound:
    low, high = span(entry.no)
    ends = "SELECT id, boot, accepted FROM rows WHERE id BETWEEN ? AND ? ORDER BY id {} LIMIT 1"
    first = base.link.execute(ends.format("ASC"), (low, high)).fetchone()
    if first is None:
        return LaneFound(entry=entry)
    last = base.link.execute(ends.format("DESC"), (low, high)).fetchone()
    return LaneFound(
        entry=entry, first=first[0], last=last[0], boot=base.boot_names.get(first[1], ""), accepted=Ns(first[2])
    )


def _dead(base: Base) -> tuple[DeadRow, ...]:
    dead = []
    for record in base.link.execute(f"SELECT {codec.DEAD_COLUMNS} FROM dead ORDER BY id"):  # noqa: S608 - names of ours
        burial = read_letter(base, record)
        if burial is not None:
            dead.append(codec.dead_row(burial, record[7]))
    return tuple(dead)


def _boots(base: Base, lanes: Iterable[LaneFound], dead: Iterable[DeadRow]) -> tuple[BootFound, ...]:
    """Boots that still matter, oldest first; the others are forgotten.

    Rows of a stream lie in the order of their boots, so that nothing before the boot of its first row is in it.
    """
    named = {letter.boot for letter in dead}
    firsts = []
    for lane in lanes:
        named.update(gap.boot or lane.entry.boot for gap in lane.entry.gaps)
        if lane.boot in base.boots:
            firsts.append(base.boots[lane.boot])
    numbers = {base.boots[boot] for boot in named if boot in base.boots}
    last = max(base.boot_names, default=0)
    oldest = min([*firsts, last])
    records = base.link.execute("SELECT * FROM boots ORDER BY no").fetchall()
    forgotten = [(record[0],) for record in records if record[0] < oldest and record[0] not in numbers]
    if forgotten:
        with base.transaction() as link:
            link.executemany("DELETE FROM boots WHERE no = ?", forgotten)
            link.executemany("DELETE FROM names WHERE kind = 'boot' AND no = ?", forgotten)
        base.learn()
    return tuple(codec.unpack_boot(record) for record in records if (record[0],) not in set(forgotten))


def _standings(base: Base) -> tuple[Standing, ...]:
    records = base.link.execute('SELECT stream, boot, seq, state, times, "by", crc FROM standings ORDER BY no')
    return tuple(standing for record in records if (standing := codec.unpack_standing(record)) is not None)
