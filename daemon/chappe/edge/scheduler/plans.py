"""When jobs run: ``cron`` lines and times of the sun, as pure functions of a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from chappe.core.settings import Job, Site
from chappe.core.units import DAY, Span
from chappe.errors import Problem

MOST_COUNTED = 10_000
SEARCH_DAYS = 400
MOST_SHIFT = DAY // 2

FIELDS = ("minute", "hour", "day", "month", "day_of_week")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TICK = timedelta(microseconds=1)


class Plan(Protocol):
    """When a job runs."""

    def next_run(self, after: datetime) -> datetime | None:
        """The first run after a moment, in UTC; None if there is none.

        Args:
            after: a moment that knows its time zone.
        """


def runs_between(plan: Plan, after: datetime, until: datetime, limit: int = MOST_COUNTED) -> list[datetime]:
    """Every run after one moment and not after another, oldest first; at most `limit`."""
    runs: list[datetime] = []
    run = plan.next_run(after)
    while run is not None and run <= until and len(runs) < limit:
        runs.append(run)
        run = plan.next_run(run)
    return runs


# ── cron ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class CronPlan:
    """A crontab line's five fields, meaning what crontab(5) says.

    APScheduler's own reading differs: its weekdays count from Monday (so ``0`` and ``*/2`` mean other days), days of month and
    of week must both match where cron takes either, and a job at 02:30 runs twice in the night the clock goes back.

    Args:
        expression: minute, hour, day of month, month, day of week.
        zone: in which time zone.

    Raises:
        ValueError: if a field is wrong; the message names it.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        fields = crontab(expression)
        _, hour, day, _, weekday = expression.split()
        either = not day.startswith("*") and not weekday.startswith("*")
        variants = [fields | {"day": "*"}, fields | {"day_of_week": "*"}] if either else [fields]
        self._triggers = [_cron_trigger(variant, zone) for variant in variants]
        self._at_fixed_hours = not hour.startswith("*")

    def next_run(self, after: datetime) -> datetime | None:
        while True:
            # Arithmetic in UTC: in local time the hour that is repeated in autumn would be lost.
            now = after.astimezone(UTC) + _TICK
            found: list[datetime | None] = [trigger.get_next_fire_time(None, now) for trigger in self._triggers]
            runs = sorted((run.astimezone(UTC), run.fold) for run in found if run is not None)
            if not runs:
                return None
            after, repeated = runs[0]
            if not (repeated and self._at_fixed_hours):
                return after


def crontab(expression: str) -> dict[str, str]:
    """The five fields by APScheduler's names, weekdays by name.

    Raises:
        ValueError: if there are not five, or one is wrong.

    >>> crontab("30 6 * * 0,6")["day_of_week"]
    'sun,sat'
    """
    parts = expression.lower().split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"{expression!r} has {len(parts)} fields; cron has five: minute hour day month weekday")
    fields = dict(zip(FIELDS, parts, strict=True))
    fields["day_of_week"] = _weekdays(fields["day_of_week"])
    for name, text in fields.items():
        try:
            _cron_trigger({name: text}, UTC)
        except ValueError as error:
            raise ValueError(f"{name} {text!r}: {error}") from error
    return fields


def _cron_trigger(fields: Mapping[str, str], zone: tzinfo) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger(**fields, timezone=zone)


def _weekdays(field: str) -> str:
    """The field with every weekday by name, so that it means the same whoever counts from where."""
    if field == "*":
        return field
    chosen = {day % 7 for item in field.split(",") for day in _span(item, field)}
    return ",".join(DAYS[day] for day in sorted(chosen))


def _span(item: str, field: str) -> range:
    match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", item)
    if match is None:
        raise ValueError(f"day_of_week {field!r}: {item!r} is neither a day nor a range; use 0 to 7 or sun to sat")
    first, last, step = match.groups()
    if first is None:
        low, high = 0, 6
    else:
        low = _day(first, field)
        high = low if last is None else _day(last, field)
        high += 7 if last is not None and high == 0 < low else 0  # fri-sun ends with the seventh day
    if high < low or step == "0" or (step and last is None and first):
        raise ValueError(f"day_of_week {field!r}: {item!r} is empty or has a step without a range")
    return range(low, high + 1, int(step or 1))


def _day(word: str, field: str) -> int:
    if word in DAYS:
        return DAYS.index(word)
    if word.isascii() and word.isdigit() and int(word) <= 7:
        return int(word)
    raise ValueError(f"day_of_week {field!r}: {word!r} is no day; use 0 to 7 or sun to sat")


# ── sun ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class SunPlan:
    """Dawn and dusk (civil, 6° below), sunrise, noon and sunset at a place, by astral.

    Days on which the sun does not get there (polar day and night) are skipped.

    Args:
        event: ``dawn``, ``sunrise``, ``noon``, ``sunset`` or ``dusk``.
        latitude: degrees, north positive.
        longitude: degrees, east positive.
        shift: added to the time of the event.
    """

    def __init__(self, event: str, latitude: float, longitude: float, shift: timedelta = timedelta(0)) -> None:
        self._event = event
        self._latitude = latitude
        self._longitude = longitude
        self._shift = shift
        # By the sun's own clock an event stays on its date; by a civil one it may cross midnight, and a day would
        # then have two events, of which astral finds one.
        self._solar = timezone(timedelta(minutes=round(longitude * 4)))

    def next_run(self, after: datetime) -> datetime | None:
        first = (after - self._shift).astimezone(self._solar).date()
        for days in range(-1, SEARCH_DAYS):
            found = self._on(first + timedelta(days=days))
            if found is not None and (run := found.replace(microsecond=0) + self._shift) > after:
                return run
        return None

    def _on(self, day: date) -> datetime | None:
        found = self._by_astral(day)
        if found is not None:
            return found
        # Where the event drifts across midnight UTC, astral misses that one day of the year.
        before, after = (self._by_astral(day + timedelta(days=step)) for step in (-1, 1))
        return before + (after - before) / 2 if before and after else None

    def _by_astral(self, day: date) -> datetime | None:
        from astral import Observer, sun

        try:
            found: datetime = getattr(sun, self._event)(
                Observer(self._latitude, self._longitude), day, tzinfo=self._solar
            )
        except ValueError:
            return None  # the sun does not get there on that day
        return found.astimezone(UTC)


def parse_shift(text: str) -> timedelta:
    """A span with a sign, like ``"-30m"``; empty for none.

    Raises:
        ValueError: if it is no duration, or half a day or more.
    """
    if not text:
        return timedelta(0)
    span = Span.parse(text.lstrip("+-"))
    if span >= MOST_SHIFT or len(text) - len(text.lstrip("+-")) > 1:
        raise ValueError(f'{text!r} is no shift; write less than half a day, like "-30m" or "1h"')
    return timedelta(microseconds=span // 1000) * (-1 if text.startswith("-") else 1)


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_of(job: Job, site: Site) -> Plan:
    """The plan of a cron or sun job.

    Raises:
        ValueError: if something `validate_job` finds is wrong.
    """
    if job.cron:
        return CronPlan(job.cron, _zone(site))
    if site.latitude is None or site.longitude is None:
        raise ValueError("sun times need [site] latitude and longitude")
    return SunPlan(job.sun, site.latitude, site.longitude, parse_shift(job.shift))


def _zone(site: Site) -> tzinfo:
    """The site's time zone, else the machine's.

    Raises:
        ValueError: if there is no such zone.
    """
    try:
        if site.timezone:
            return ZoneInfo(site.timezone)
        from tzlocal import get_localzone

        local: tzinfo = get_localzone()
    except (KeyError, OSError, ValueError) as error:
        name = repr(site.timezone) if site.timezone else f"the machine's own setting ({error})"
        raise ValueError(f'{name} is no time zone; write [site] timezone like "Europe/Paris"') from error
    return local


def validate_job(job: Job, site: Site, path: str) -> list[Problem]:
    """Everything wrong with when a job should run.

    Args:
        job: the section.
        site: the section ``[site]``.
        path: the job's dotted key, for example ``jobs.night``.
    """
    return [Problem(f"{path}.{key}", code, message) for key, code, message in _wrong(job, site)]


def _wrong(job: Job, site: Site) -> Iterator[tuple[str, str, str]]:
    given = [name for name in ("every", "cron", "sun") if getattr(job, name)]
    if len(given) != 1:
        yield given[1] if given else "every", "conflict" if given else "missing", "give one of every, cron and sun"
        return
    if job.shift and not job.sun:
        yield "shift", "conflict", "shift moves sun times only"
    try:
        parse_shift(job.shift)
    except ValueError as error:
        yield "shift", "range", str(error)
        return
    if job.every:
        return
    try:
        if plan_of(job, site).next_run(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            yield given[0], "range", "this never comes"
    except ValueError as error:
        yield given[0], "syntax" if job.cron else "missing", str(error)
