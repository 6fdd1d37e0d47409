"""What the vision tests share: the bundled frames, the photographs, the models and pipelines over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chappe.edge import models
from chappe.vision.hands import HandPipeline, HandSettings
from chappe.vision.manifest import Manifest
from chappe.vision.picture import decode
from chappe.vision.runtime import Runtime, find_runtime

Frame = npt.NDArray[np.uint8]
Opener = Callable[..., HandPipeline]


@pytest.fixture(scope="session")
def manifests(checkout: Path) -> dict[str, Manifest]:
    """The manifests of this checkout by model name."""
    return models.load_manifests(checkout / "models")


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """A runtime that works here."""
    return find_runtime()


@pytest.fixture(scope="session")
def contents_of(manifests: dict[str, Manifest]) -> Callable[[str], dict[str, bytes]]:
    """The verified bytes of a model; the test skips where the weights have not been pulled."""

    @functools.cache
    def contents(name: str) -> dict[str, bytes]:
        folders = models.search_dirs()
        if not all(finding.ok for finding in models.verify([manifests[name]], folders)):
            pytest.skip("no weights: run `chappe models pull`")
        return models.read(manifests[name], folders)

    return contents


@pytest.fixture
def opened(
    manifests: dict[str, Manifest], contents_of: Callable[[str], dict[str, bytes]], runtime: Runtime
) -> Iterator[Opener]:
    """Opens pipelines: ``opened("hands-lite", hands=2)``; Pillow prepares the pictures unless something else is asked for."""
    pipelines: list[HandPipeline] = []

    def build(name: str, **settings: Any) -> HandPipeline:
        chosen = HandSettings(**{"backend": "pillow", **settings})
        pipeline = HandPipeline(manifests[name], contents_of(name), chosen, runtime=runtime)
        pipeline.open()
        pipelines.append(pipeline)
        return pipeline

    yield build
    for pipeline in pipelines:
        pipeline.close()


@pytest.fixture(scope="session")
def frames(checkout: Path) -> dict[str, Frame]:
    """The eight bundled frames by label."""
    folder = checkout / "config" / "frames"
    return {path.stem: decode(path.read_bytes(), name=path.name) for path in sorted(folder.glob("*.png"))}


@pytest.fixture(scope="session")
def background(frames: dict[str, Frame]) -> Frame:
    """The bundled frames' background alone."""
    return np.broadcast_to(frames["Open_Palm"][0, 0], (480, 640, 3)).copy()


@pytest.fixture(scope="session")
def sliding() -> Callable[[Frame], list[Frame]]:
    """A bundled frame slid from -120 to +120 px in steps of 4: 61 frames (what leaves on one side is background)."""
    return lambda frame: [np.roll(frame, offset, axis=1) for offset in range(-120, 121, 4)]
