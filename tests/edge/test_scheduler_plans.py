"""When cron and sun jobs run, against calendars and an almanac that are not APScheduler's and astral's."""

from __future__ import annotations

import doctest
import itertools
import math
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import tzlocal
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chappe.core.settings import Job, Site
from chappe.core.units import SECOND, Span
from chappe.edge.scheduler import CronPlan, SunPlan, plan_of, plans, runs_between, validate_job

PARIS = ZoneInfo("Europe/Paris")
WHERE_PARIS = Site(latitude=48.8566, longitude=2.3522, timezone="Europe/Paris")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def cron_days(expression: str, start: date, days: int) -> list[date]:
    """The dates of the runs of a cron line in so many days, in UTC."""
    first = datetime.combine(start, time(), UTC)
    runs = runs_between(
        CronPlan(expression, UTC), first - timedelta(seconds=1), first + timedelta(days=days, seconds=-1)
    )
    return [run.date() for run in runs]


# ── cron ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SCH-01", breaks="chappe.edge.scheduler.plans:CronPlan.next_run")
def test_a_nightly_job_runs_three_times_in_three_days() -> None:
    """``0 3 * * *`` over 3 days is 3 runs, at 03:00 local time."""
    plan = CronPlan("0 3 * * *", PARIS)
    runs = runs_between(plan, utc(2026, 1, 10), utc(2026, 1, 13))
    assert runs == [utc(2026, 1, 10, 2), utc(2026, 1, 11, 2), utc(2026, 1, 12, 2)]
    assert [run.astimezone(PARIS).hour for run in runs] == [3, 3, 3]


def test_a_run_at_the_very_moment_is_over() -> None:
    """`next_run` is after the moment, never at it, so that asking with a run gives the one behind it."""
    plan = CronPlan("0 * * * *", UTC)
    assert plan.next_run(utc(2026, 1, 1, 10)) == utc(2026, 1, 1, 11)
    assert plan.next_run(utc(2026, 1, 1, 10) - timedelta(microseconds=1)) == utc(2026, 1, 1, 10)


def test_runs_are_counted_up_to_a_limit() -> None:
    """A decade of minutes does not have to be listed."""
    plan = CronPlan("* * * * *", UTC)
    assert len(runs_between(plan, utc(2016, 1, 1), utc(2026, 1, 1), limit=50)) == 50


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("sun", "Sun"),
        ("SUN", "Sun"),
        ("1", "Mon"),
        ("6", "Sat"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("mon-fri", "Mon Tue Wed Thu Fri"),
        ("0,6", "Sat Sun"),
        ("6-7", "Sat Sun"),
        ("fri-sun", "Fri Sat Sun"),
        ("sun-tue", "Mon Tue Sun"),
        ("0-7", "Mon Tue Wed Thu Fri Sat Sun"),
        ("*/2", "Tue Thu Sat Sun"),
        ("1-5/2", "Mon Wed Fri"),
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
        ("mon,wed-thu", "Mon Wed Thu"),
    ],
)
def test_weekdays_count_from_sunday(field: str, days: str) -> None:
    """0 and 7 are Sunday as in crontab(5), not Monday as in APScheduler 3."""
    monday = date(2026, 3, 2)
    assert " ".join(day.strftime("%a") for day in cron_days(f"0 12 * * {field}", monday, 7)) == days


def test_day_of_month_or_weekday() -> None:
    """With both restricted, either is enough: every 13th, and every Friday."""
    expected = {date(2026, 3, 13), date(2026, 3, 6), date(2026, 3, 20), date(2026, 3, 27), date(2026, 4, 13)} | {
        date(2026, 4, day) for day in (3, 10, 17, 24)
    }
    assert set(cron_days("0 0 13 * 5", date(2026, 3, 1), 61)) == expected


def test_a_star_with_a_step_still_means_both() -> None:
    """crontab(5): a field that begins with a star does not count as restricted."""
    assert cron_days("0 0 */10 * 5", date(2026, 5, 1), 31) == [date(2026, 5, 1)]


@given(
    month=st.sampled_from(["*", "2", "3-5", "jan,dec", "*/4"]),
    day=st.sampled_from(["*", "1", "29-31", "*/7", "5,15"]),
    weekday=st.sampled_from(["*", "0", "7", "1-5", "*/3", "sat-sun", "3"]),
    start=st.dates(date(2020, 1, 1), date(2030, 1, 1)),
)
@settings(max_examples=60, deadline=None)
def test_days_are_those_of_the_manual(month: str, day: str, weekday: str, start: date) -> None:
    """The runs of 120 days are those a reading of crontab(5) by hand gives."""
    months = {"*": range(1, 13), "2": [2], "3-5": [3, 4, 5], "jan,dec": [1, 12], "*/4": [1, 5, 9]}[month]
    days = {"*": range(1, 32), "1": [1], "29-31": [29, 30, 31], "*/7": [1, 8, 15, 22, 29], "5,15": [5, 15]}[day]
    weekdays = {
        "*": range(7),
        "0": [0],
        "7": [0],
        "1-5": [1, 2, 3, 4, 5],
        "*/3": [0, 3, 6],
        "sat-sun": [6, 0],
        "3": [3],
    }[weekday]

    def due(when: date) -> bool:
        matches = (when.day in days, when.isoweekday() % 7 in weekdays)
        either = not day.startswith("*") and not weekday.startswith("*")
        return when.month in months and (any(matches) if either else all(matches))

    expected = [when for when in (start + timedelta(days=n) for n in range(120)) if due(when)]
    assert cron_days(f"30 4 {day} {month} {weekday}", start, 120) == expected


def test_in_spring_a_run_in_the_missing_hour_is_not_lost() -> None:
    """02:30 does not exist on that night; the job runs once, an hour later by the clock."""
    runs = runs_between(CronPlan("30 2 * * *", PARIS), utc(2026, 3, 28, 12), utc(2026, 3, 30, 12))
    assert runs == [utc(2026, 3, 29, 1, 30), utc(2026, 3, 30, 0, 30)]


def test_in_autumn_a_run_in_the_repeated_hour_happens_once() -> None:
    """02:30 comes twice in that night; a nightly job runs the first time only."""
    runs = runs_between(CronPlan("30 2 * * *", PARIS), utc(2026, 10, 24, 12), utc(2026, 10, 26, 12))
    assert runs == [utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]


def test_in_autumn_an_hourly_job_runs_in_both_hours() -> None:
    """A job for any hour follows real time."""
    runs = runs_between(CronPlan("0 * * * *", PARIS), utc(2026, 10, 24, 23, 30), utc(2026, 10, 25, 3, 30))
    assert runs == [utc(2026, 10, 25, hour) for hour in range(4)]


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("", "has 0 fields"),
        ("0 3 * *", "has 4 fields; cron has five"),
        ("0 0 3 * * *", "has 6 fields"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 32 * *", "day '32'"),
        ("* * * foo *", "month 'foo'"),
        ("* * * * 8", "day_of_week '8'"),
        ("* * * * fry", "day_of_week 'fry': 'fry' is no day"),
        ("* * * * 5-1", "day_of_week '5-1'"),
        ("* * * * 1,,2", "day_of_week '1,,2'"),
        ("* * * * */0", "day_of_week '*/0'"),
        ("* * * * 1/2", "day_of_week '1/2'"),
        ("* * * * ²", "day_of_week '²'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("5-1 * * * *", "minute '5-1'"),
    ],
)
def test_a_wrong_field_is_named(expression: str, hint: str) -> None:
    """The message says which of the five it is."""
    with pytest.raises(ValueError) as caught:
        CronPlan(expression, UTC)
    assert hint in str(caught.value)


def test_the_example_in_the_docstring_holds() -> None:
    """The documented example is true."""
    result = doctest.testmod(plans)
    assert (result.attempted, result.failed) == (1, 0)


# ── the sun ──────────────────────────────────────────────────────────────────────────────────────────────────────────

RISING, SETTING = 6, 18


def almanac(day: date, latitude: float, longitude: float, about: int, zenith: float = 90.8333) -> datetime | None:
    """Sunrise or sunset after "Almanac for Computers, 1990" (Nautical Almanac Office, US Naval Observatory).

    A method of its own, not the one of NOAA and Meeus that astral uses; good to about two minutes at middle latitudes.
    """
    hours_east = longitude / 15
    t = day.timetuple().tm_yday + (about - hours_east) / 24
    anomaly = math.radians(0.9856 * t - 3.289)
    true_longitude = math.degrees(anomaly) + 1.916 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly) + 282.634
    place = math.radians(true_longitude)
    ascension = math.degrees(math.atan2(0.91764 * math.sin(place), math.cos(place))) / 15
    sine = 0.39782 * math.sin(place)
    cosine = math.cos(math.asin(sine))
    at = math.radians(latitude)
    hour_angle = (math.cos(math.radians(zenith)) - sine * math.sin(at)) / (cosine * math.cos(at))
    if abs(hour_angle) > 1:
        return None
    hours = math.degrees(math.acos(hour_angle)) / 15
    local = ((hours if about == SETTING else 24 - hours) + ascension - 0.06571 * t - 6.622) % 24
    midnight = datetime.combine(day, time(), UTC)
    return midnight + timedelta(hours=local - hours_east)


@pytest.mark.feature("SCH-01", breaks="chappe.edge.scheduler.plans:SunPlan.next_run")
@pytest.mark.parametrize(
    ("day", "local"),
    [
        (date(2026, 3, 20), "19:04"),
        (date(2026, 6, 21), "21:58"),
        (date(2026, 9, 22), "19:50"),
        (date(2026, 12, 21), "16:56"),
    ],
)
def test_sunset_in_paris(day: date, local: str) -> None:
    """On four dates the golden minute, within two of it, and within two of the naval almanac's method."""
    plan = plan_of(Job(sun="sunset"), WHERE_PARIS)
    run = plan.next_run(datetime.combine(day, time(12), PARIS))
    assert run is not None
    golden = datetime.combine(day, time.fromisoformat(local), PARIS)
    assert abs(run - golden) <= timedelta(minutes=2)
    by_almanac = almanac(day, 48.8566, 2.3522, SETTING)
    assert by_almanac is not None
    assert abs(run - by_almanac) <= timedelta(minutes=2)


@settings(max_examples=100, deadline=None)
@given(
    event=st.sampled_from(
        [("sunrise", RISING, 90.8333), ("sunset", SETTING, 90.8333), ("dawn", RISING, 96.0), ("dusk", SETTING, 96.0)]
    ),
    latitude=st.floats(-55, 55),
    longitude=st.floats(-180, 180),
    day=st.dates(date(2024, 1, 2), date(2030, 12, 30)),
)
@example(event=("sunset", SETTING, 90.8333), latitude=35.0, longitude=-90.0, day=date(2026, 3, 20))
@example(event=("sunrise", RISING, 90.8333), latitude=0.0, longitude=180.0, day=date(2026, 6, 1))
def test_the_sun_agrees_with_the_almanac(
    event: tuple[str, int, float], latitude: float, longitude: float, day: date
) -> None:
    """Anywhere people live, each event of the day is found within three minutes, also around midnight UTC."""
    name, about, zenith = event
    expected = almanac(day, latitude, longitude, about, zenith)
    if expected is None:
        return  # white nights: no civil dusk at 55 degrees in June
    run = SunPlan(name, latitude, longitude).next_run(expected - timedelta(minutes=10))
    assert run is not None
    assert abs(run - expected) <= timedelta(minutes=4 if zenith > 95 else 3)


@pytest.mark.parametrize("longitude", [-180.0, -90.0, 0.0, 90.0, 180.0])
@pytest.mark.parametrize("event", ["sunrise", "noon", "sunset"])
def test_a_year_has_one_event_a_day(event: str, longitude: float) -> None:
    """No event is skipped or found twice, wherever midnight UTC falls."""
    runs = runs_between(SunPlan(event, 50.0, longitude), utc(2026, 1, 1), utc(2027, 1, 1))
    gaps = {(later - earlier) for earlier, later in itertools.pairwise(runs)}
    assert 364 <= len(runs) <= 366
    assert timedelta(hours=23, minutes=55) < min(gaps) <= max(gaps) < timedelta(hours=24, minutes=5)


def test_noon_is_half_way_between_sunrise_and_sunset() -> None:
    """In the middle of the day, within a minute or two."""
    rise, noon, fall = (
        SunPlan(event, 48.8566, 2.3522).next_run(utc(2026, 6, 21)) for event in ("sunrise", "noon", "sunset")
    )
    assert rise is not None
    assert noon is not None
    assert fall is not None
    assert abs(noon - (rise + (fall - rise) / 2)) < timedelta(minutes=2)


def test_polar_day_and_night_are_skipped() -> None:
    """In Tromsø the next sunset after the end of May is in July, the next sunrise after early December in January."""
    sunset = SunPlan("sunset", 69.65, 18.96).next_run(utc(2026, 5, 25))
    sunrise = SunPlan("sunrise", 69.65, 18.96).next_run(utc(2026, 12, 1))
    assert sunset is not None
    assert sunrise is not None
    assert date(2026, 7, 20) <= sunset.date() <= date(2026, 7, 30)
    assert date(2027, 1, 10) <= sunrise.date() <= date(2027, 1, 20)
    assert almanac(date(2026, 6, 21), 69.65, 18.96, SETTING) is None


@pytest.mark.parametrize(
    ("shift", "minutes"), [("", 0), ("-30m", -30), ("+30m", 30), ("1h", 60), ("-1h30m", -90), ("90s", 1.5)]
)
def test_a_shift_moves_the_run(shift: str, minutes: float) -> None:
    """Half an hour before sunset is half an hour before sunset."""
    plain = plan_of(Job(sun="sunset"), WHERE_PARIS).next_run(utc(2026, 6, 21, 12))
    shifted = plan_of(Job(sun="sunset", shift=shift), WHERE_PARIS).next_run(utc(2026, 6, 21, 12))
    assert plain is not None
    assert shifted is not None
    assert shifted - plain == timedelta(minutes=minutes)


def test_a_shifted_run_that_is_over_is_not_found_again() -> None:
    """Between the shifted time and the event itself the next run is tomorrow's."""
    plan = plan_of(Job(sun="sunset", shift="-2h"), WHERE_PARIS)
    run = plan.next_run(utc(2026, 6, 21, 12))
    assert run is not None
    after = plan.next_run(run + timedelta(hours=1))
    assert after is not None
    assert timedelta(hours=23, minutes=50) < after - run < timedelta(hours=24, minutes=10)


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sites_time_zone_counts() -> None:
    """03:00 is 03:00 where the device stands."""
    plan = plan_of(Job(cron="0 3 * * *"), Site(timezone="Asia/Tokyo"))
    assert plan.next_run(utc(2026, 1, 1)) == utc(2026, 1, 1, 18)


def test_without_a_site_the_machines_time_zone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be configured for local time."""
    monkeypatch.setattr(tzlocal, "get_localzone", lambda: ZoneInfo("America/New_York"))
    assert plan_of(Job(cron="0 3 * * *"), Site()).next_run(utc(2026, 7, 1)) == utc(2026, 7, 1, 7)


def test_a_machine_without_a_proper_time_zone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken TZ is a problem with a remedy, not a crash."""

    def broken() -> ZoneInfo:
        return ZoneInfo("No/Where")

    monkeypatch.setattr(tzlocal, "get_localzone", broken)
    with pytest.raises(ValueError, match=r"machine's own setting .* write \[site\] timezone"):
        plan_of(Job(cron="0 3 * * *"), Site())


@pytest.mark.parametrize(
    "job",
    [
        Job(every=Span(SECOND)),
        Job(cron="0 3 * * *"),
        Job(cron="0 0 29 2 *"),
        Job(sun="dusk"),
        Job(sun="sunset", shift="-30m"),
    ],
)
def test_good_jobs_have_no_problems(job: Job) -> None:
    """What is right is not complained about."""
    assert validate_job(job, WHERE_PARIS, "jobs.x") == []


@pytest.mark.parametrize(
    ("job", "site", "path", "code", "hint"),
    [
        (Job(), WHERE_PARIS, "jobs.x.every", "missing", "one of every, cron and sun"),
        (Job(every=Span(SECOND), cron="0 3 * * *"), WHERE_PARIS, "jobs.x.cron", "conflict", "one of"),
        (Job(cron="0 3 * * *", sun="dawn"), WHERE_PARIS, "jobs.x.sun", "conflict", "one of"),
        (Job(cron="0 25 * * *"), WHERE_PARIS, "jobs.x.cron", "syntax", "hour '25'"),
        (Job(cron="0 0 30 2 *"), WHERE_PARIS, "jobs.x.cron", "range", "never comes"),
        (
            Job(cron="0 3 * * *"),
            Site(timezone="Mars/Olympus"),
            "jobs.x.cron",
            "syntax",
            "'Mars/Olympus' is no time zone",
        ),
        (Job(cron="0 3 * * *"), Site(timezone="../etc"), "jobs.x.cron", "syntax", "is no time zone"),
        (Job(sun="dawn"), Site(), "jobs.x.sun", "missing", "latitude and longitude"),
        (Job(sun="dawn"), Site(latitude=1.0), "jobs.x.sun", "missing", "latitude and longitude"),
        (Job(sun="dawn", shift="soon"), WHERE_PARIS, "jobs.x.shift", "range", "'soon' is not a duration"),
        (Job(sun="dawn", shift="--1m"), WHERE_PARIS, "jobs.x.shift", "range", "is no shift"),
        (Job(sun="dawn", shift="12h"), WHERE_PARIS, "jobs.x.shift", "range", "less than half a day"),
        (Job(cron="0 3 * * *", shift="1m"), WHERE_PARIS, "jobs.x.shift", "conflict", "sun times only"),
    ],
)
def test_each_mistake_in_a_job_is_named(job: Job, site: Site, path: str, code: str, hint: str) -> None:
    """One mistake gives one problem, at its key, with the reason."""
    (problem,) = validate_job(job, site, "jobs.x")
    assert (problem.path, problem.code) == (path, code)
    assert hint in problem.message
