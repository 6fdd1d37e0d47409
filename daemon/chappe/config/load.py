"""Layers of configuration, later wins: defaults, /etc/chappe/chappe.toml, /etc/chappe/conf.d/*.toml, environment, command line.

(The fleet overlay of a later issue takes its place before the environment.) Every value remembers the layer that set it, so that
``config show --origin`` and every error can name file and line.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chappe.config.check import cross_check
from chappe.config.convert import convert
from chappe.core.settings import Config
from chappe.errors import ConfigError, Problem

ETC = Path("/etc/chappe")
ENVIRONMENT = "CHAPPE_"
# Variables of the same prefix that are no configuration keys.
NOT_KEYS = {"CHAPPE_CONFIG", "CHAPPE_DATA", "CHAPPE_NUMPY1_PYTHON"}
PATH_KEYS = (
    "device.state_dir",
    "camera.path",
    "mqtt.password_file",
    "mqtt.ca_file",
    "mqtt.cert_file",
    "mqtt.key_file",
    "models.dir",
)


@dataclass(frozen=True)
class Layer:
    """One source of values.

    Attributes:
        name: a file's path, ``environment`` or ``command line``.
        data: nested tables of values.
        text: the file's text, from which line numbers are taken.
        base: the folder that relative paths in this layer are relative to.
    """

    name: str
    data: Mapping[str, Any]
    text: str | None = None
    base: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class Loaded:
    """A valid configuration and where its values come from.

    Attributes:
        config: the typed whole.
        origins: layer name by dotted path, for every value that is not a default.
        layers: the layers that were read, in order.
    """

    config: Config
    origins: Mapping[str, str]
    layers: tuple[Layer, ...]

    def where(self, path: str) -> str:
        """``file:line`` or layer name that set `path`, or ``default``."""
        if path not in self.origins:
            return "default"
        name, line = _locate(path, self.origins, {layer.name: layer for layer in self.layers})
        return f"{name}:{line}" if line else name

    def placed(self, problem: Problem) -> Problem:
        """A problem that was found later, with the file and line of its key."""
        return _placed(problem, self.origins, {layer.name: layer for layer in self.layers})


def load(
    file: Path | None = None,
    *,
    etc: Path = ETC,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> Loaded:
    """Read, layer and validate the configuration.

    Args:
        file: read this file in place of everything under `etc`.
        etc: folder with ``chappe.toml`` and ``conf.d``; either may be missing.
        environ: environment variables; default the process's own.
        overrides: ``section.key=value`` from the command line, values as in TOML.

    Raises:
        ConfigError: if anything is wrong; it carries everything that is.
    """
    layers, problems = _read_all(file, etc, os.environ if environ is None else environ, overrides)
    return _build(layers, problems)


def loads(text: str, *, name: str = "text", base: Path | None = None) -> Loaded:
    """Read one file's worth of configuration from memory, with nothing above or below it.

    Raises:
        ConfigError: if anything is wrong; it carries everything that is.
    """
    return _build([Layer(name, _parse(text, name), text, base or Path.cwd())], [])


def _build(layers: list[Layer], problems: list[Problem]) -> Loaded:
    merged, origins = _merge(layers)
    _resolve_paths(merged, origins, {layer.name: layer for layer in layers})
    config, found = convert(Config, merged)
    if config is not None:
        found += cross_check(config)
    named = {layer.name: layer for layer in layers}
    problems += [_placed(problem, origins, named) for problem in found]
    if problems:
        raise ConfigError(problems)
    return Loaded(config, origins, tuple(layers))


def _read_all(
    file: Path | None, etc: Path, environ: Mapping[str, str], overrides: Iterable[str]
) -> tuple[list[Layer], list[Problem]]:
    layers: list[Layer] = []
    problems: list[Problem] = []
    for path in [file] if file else [etc / "chappe.toml", *sorted((etc / "conf.d").glob("*.toml"))]:
        if file is None and not path.exists():
            continue
        try:
            layers.append(_read(path))
        except ConfigError as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem("", "syntax", f"cannot be read: {error}", str(path)))
    for layer, found in (_environment(environ), _overrides(overrides)):
        layers.append(layer)
        problems += found
    return layers, problems


def _read(path: Path) -> Layer:
    text = path.read_text(encoding="utf-8")
    return Layer(str(path), _parse(text, str(path)), text, path.resolve().parent)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(place.group(1)) if place else text.count("\n") + 1  # else it says "at end of document"
        raise ConfigError([Problem("", "syntax", f"not valid TOML: {error}", name, line)]) from None


def _environment(environ: Mapping[str, str]) -> tuple[Layer, list[Problem]]:
    data: dict[str, Any] = {}
    for name in sorted(environ):
        if name.startswith(ENVIRONMENT) and name not in NOT_KEYS and "__" in name:
            _put(data, name[len(ENVIRONMENT) :].lower().split("__"), _value(environ[name]))
    return Layer("environment", data), []


def _overrides(overrides: Iterable[str]) -> tuple[Layer, list[Problem]]:
    data: dict[str, Any] = {}
    problems: list[Problem] = []
    for item in overrides:
        path, equals, value = item.partition("=")
        if not equals:
            problems.append(Problem(path, "syntax", "write it as section.key=value", "command line"))
            continue
        _put(data, path.strip().split("."), _value(value.strip()))
    return Layer("command line", data), problems


def _value(text: str) -> Any:
    """A value as TOML would read it; what is not TOML is text, so that ``mqtt.host=broker`` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(data.get(key), dict):
            data[key] = {}
        data = data[key]
    data[keys[-1]] = value


def _merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _merge_into(merged, layer.data, "", layer.name, origins)
    return merged, origins


def _merge_into(target: dict[str, Any], data: Mapping[str, Any], path: str, name: str, origins: dict[str, str]) -> None:
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            if not isinstance(target.get(key), dict):
                target[key] = {}
                origins[here] = name
            _merge_into(target[key], value, here, name, origins)
        else:
            target[key] = value
            origins[here] = name


def _resolve_paths(merged: dict[str, Any], origins: Mapping[str, str], layers: Mapping[str, Layer]) -> None:
    """Make relative paths absolute, relative to the file that set them, whatever folder the daemon is started in."""
    for path in PATH_KEYS:
        section, key = path.split(".")
        value = merged.get(section, {}).get(key) if isinstance(merged.get(section), dict) else None
        if isinstance(value, str) and value:
            trailing = "/" if value.endswith("/") else ""
            place = Path(value)
            with contextlib.suppress(RuntimeError):  # no such user: then "~name" is the name of a folder
                place = place.expanduser()
            merged[section][key] = str(layers[origins[path]].base / place) + trailing


def _placed(problem: Problem, origins: Mapping[str, str], layers: Mapping[str, Layer]) -> Problem:
    name, line = _locate(problem.path, origins, layers)
    return replace(problem, file=name, line=line) if name else problem


def _locate(path: str, origins: Mapping[str, str], layers: Mapping[str, Layer]) -> tuple[str, int | None]:
    """Layer and line of the nearest table or key at or above `path` that some layer set."""
    from chappe.config.lines import key_lines

    keys = path.split(".")
    for depth in range(len(keys), 0, -1):
        here = ".".join(keys[:depth])
        if here in origins:
            layer = layers[origins[here]]
            if layer.text is None:
                return layer.name, None
            lines = key_lines(layer.text)
            return layer.name, next((lines[p] for p in _upwards(path) if p in lines), None)
    return "", None


def _upwards(path: str) -> list[str]:
    keys = path.split(".")
    return [".".join(keys[:depth]) for depth in range(len(keys), 0, -1)]
