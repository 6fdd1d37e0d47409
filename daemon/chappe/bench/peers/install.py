"""Install a peer into a folder of its own, once; what cannot be installed is said, never passed over."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from chappe.errors import EdgeError

NODE_RED = "4.1.15"
MQTT_IO = "2.7.0"
THINGSBOARD = "3.8.5"
# What the storages of thingsboard-gateway import; the gateway's own dependencies are thirty packages with a compiler among them.
THINGSBOARD_NEEDS = ("simplejson==4.3.0", "pybase64==1.5.1")
_WITHIN_S = 900.0


class NotInstalledError(EdgeError):
    """A peer cannot be installed here."""


def node_red(folder: Path) -> Path:
    """Node-RED by npm; returns its main script.

    Raises:
        NotInstalledError: if node or npm are missing, or npm fails.
    """
    script = folder / "node_modules" / "node-red" / "red.js"
    if not script.exists():
        if not shutil.which("node") or not shutil.which("npm"):
            raise NotInstalledError("node or npm is missing", remedy="sudo apt install nodejs npm")
        options = ("--no-audit", "--no-fund", "--loglevel=error")
        _run("npm", "install", "--prefix", str(folder), *options, f"node-red@{NODE_RED}")
    return script


def mqtt_io(folder: Path) -> Path:
    """mqtt-io by pip in a venv; returns its Python.

    Raises:
        NotInstalledError: if that fails.
    """
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", f"mqtt-io=={MQTT_IO}")
        (folder / "installed").touch()
    return python


def thingsboard(folder: Path) -> Path:
    """The gateway's package and what its storages import, by pip; returns the folder to put on the path.

    Raises:
        NotInstalledError: if that fails.
    """
    if not (folder / "installed").exists():
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--upgrade", "--no-deps")
        _run(*pip, f"thingsboard-gateway=={THINGSBOARD}", *THINGSBOARD_NEEDS)
        (folder / "installed").touch()
    return folder


def mosquitto() -> str:
    """Path of the system's mosquitto.

    Raises:
        NotInstalledError: if there is none.
    """
    from chappe.edge.broker import find_mosquitto

    path = find_mosquitto()
    if path is None:
        raise NotInstalledError("mosquitto is missing", remedy="sudo apt install mosquitto")
    return path


def mosquitto_version() -> str:
    """Its version, as it says itself."""
    said = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    words = said.split()
    return words[words.index("version") + 1] if "version" in words else "unknown"


def node_red_version(folder: Path) -> str:
    """What npm put there."""
    text = (folder / "node_modules" / "node-red" / "package.json").read_text("utf-8")
    version: str = json.loads(text)["version"]
    return version


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"`{words[0]}` failed: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(f"`{' '.join(words[:4])} …` failed: {said[-1] if said else 'it said nothing'}")
