"""What every fault test may use; nothing here outlives its test."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from chappe.edge.broker import find_mosquitto

from .oracle import repeats
from .tower import Told

NIGHTLY = bool(os.environ.get("NIGHTLY"))

Tale = Callable[[Path], Told]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this folder that wait for a tale come last in it: what needs a core of its own runs meanwhile."""
    ours = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    patient = sorted((items[place] for place in ours), key=lambda item: "told" in getattr(item, "fixturenames", ()))
    for place, item in zip(ours, patient, strict=True):
        items[place] = item


@pytest.fixture(autouse=True)
def mosquitto_where_it_is_used(request: pytest.FixtureRequest) -> None:
    """Scenes need a mosquitto; what looks at the harness alone does not."""
    if {"seed", "told"} & set(request.fixturenames) and not find_mosquitto():
        pytest.skip("mosquitto is not installed")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure or a seed even where the test passes."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    return say


@pytest.fixture
def seed(tell: Callable[[str], None]) -> int:
    """Where chance comes from: drawn anew each time and printed; FAULT_SEED=n repeats one."""
    given = os.environ.get("FAULT_SEED")
    number = int(given) if given else random.SystemRandom().randrange(10**6)
    tell(f"FAULT_SEED={number}")
    return number


@pytest.fixture(scope="session")
def tales(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Tale, Future[Told]]]:
    """Every tale that a selected test is about, told side by side: they spend their time in waiting."""
    mine = (item for item in request.session.items if item.path.parent == Path(__file__).parent)
    calls = (getattr(item, "callspec", None) for item in mine)
    wanted = dict.fromkeys(call.params["told"] for call in calls if call is not None and "told" in call.params)
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        yield {tale: pool.submit(tale, tmp_path_factory.mktemp(tale.__name__)) for tale in wanted}


@pytest.fixture
def told(
    request: pytest.FixtureRequest,
    mosquitto_where_it_is_used: None,
    tales: Mapping[Tale, Future[Told]],
    tell: Callable[[str], None],
) -> Told:
    """How the tale ended that this test is about."""
    end = tales[request.param].result()
    said = repeats(end.story.account.messages)
    tell(f"{request.param.__name__}: {said} repeats, stopped in {max(end.story.stops):.2f} s {end.figures or ''}")
    return end
