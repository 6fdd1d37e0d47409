"""Where the files lie that come with the program: in a wheel beside its modules, in a checkout above them."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def bundled(name: str, package: Path = PACKAGE) -> Path:
    """The place of a file or folder that comes with the program.

    A wheel carries the checkout's folders ``config`` and ``models`` as ``_config`` and ``_models`` inside the package.

    Args:
        name: its path in a checkout, for example ``config/demo.toml``.
        package: the folder of the package.

    Raises:
        FileNotFoundError: if this installation lacks it.

    >>> bundled("config/demo.toml").name
    'demo.toml'
    """
    places = (package / f"_{name}", package.parent.parent / name)
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{name} is missing from this installation of chappe: neither {places[0]} nor {places[1]}")
