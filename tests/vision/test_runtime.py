"""The adapter over the TFLite runtimes: chosen by what works, addressed by names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chappe.edge.models import load_manifests
from chappe.errors import ModelError
from chappe.vision.runtime import PROBE_MODEL, Candidate, Model, Runtime, explain, find_runtime

GOOD = Candidate("good", lambda: (find_runtime().interpreter, "1"))


class BuiltForNumpyOne:
    """What tflite-runtime's interpreter does beside numpy 2: it imports, and dies when it is built."""

    def __init__(self, **_: object) -> None:
        cause = ImportError("numpy.core.multiarray failed to import")
        raise SystemError(
            "<built-in method CreateWrapperFromBuffer> returned a result with an exception set"
        ) from cause


class Liar:
    """An interpreter that runs and answers nonsense."""

    def __init__(self, **_: object) -> None:
        pass

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"name": "x", "index": 0, "shape": np.array([1, 2]), "dtype": np.float32}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"name": "y", "index": 1, "shape": np.array([1, 2]), "dtype": np.float32}]

    def set_tensor(self, index: int, value: object) -> None:
        pass

    def invoke(self) -> None:
        pass

    def get_tensor(self, index: int) -> Any:
        return np.zeros((1, 2), np.float32)


def absent(name: str, module: str) -> Candidate:
    def load() -> tuple[Any, str]:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    return Candidate(name, load)


def broken(name: str = "tflite-runtime", interpreter: type = BuiltForNumpyOne) -> Candidate:
    return Candidate(name, lambda: (interpreter, "2.14.0"))


# ---- choosing --------------------------------------------------------------------------------------------------------


def test_the_installed_runtime_is_found_and_computes() -> None:
    """On this machine one of the two runtimes works, and the probe model doubles its input."""
    runtime = find_runtime()
    assert runtime.name in {"ai-edge-litert", "tflite-runtime"}
    assert runtime.version
    answer = runtime.load(PROBE_MODEL).invoke({"x": np.array([[3.0, -4.0]], np.float32)})
    assert answer["y"].tolist() == [[6.0, -8.0]]


@pytest.mark.feature("VIS-01", breaks="chappe.vision.runtime:_probe")
def test_a_runtime_that_imports_and_then_dies_is_not_chosen() -> None:
    """tflite-runtime beside numpy 2 passes its import; the next candidate is used, and the reason names `numpy<2`."""
    runtime = find_runtime([broken(), GOOD])
    assert runtime.name == "good"
    [(name, reason)] = runtime.refused
    assert name == "tflite-runtime"
    assert "numpy<2" in reason


@pytest.mark.feature("VIS-01", breaks="chappe.vision.runtime:explain")
def test_without_any_runtime_each_candidate_is_explained() -> None:
    """None works: the error names both, what to install, and the numpy trap."""
    with pytest.raises(ModelError) as caught:
        find_runtime([absent("ai-edge-litert", "ai_edge_litert"), broken()])
    assert "ai-edge-litert: not installed" in caught.value.message
    assert "tflite-runtime: was built for numpy 1" in caught.value.message
    assert "numpy<2" in caught.value.message
    assert "pip install ai-edge-litert" in caught.value.remedy
    assert caught.value.code == "tflite"


def test_a_runtime_that_computes_nonsense_is_refused() -> None:
    """Running without an error is not enough."""
    runtime = find_runtime([broken("ai-edge-litert", Liar), GOOD])
    assert runtime.refused[0][0] == "ai-edge-litert"
    assert "instead of [[2.0, 5.0]]" in runtime.refused[0][1]


def test_no_candidates_is_said_plainly() -> None:
    with pytest.raises(ModelError, match="nothing to try"):
        find_runtime([])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModuleNotFoundError("No module named 'ai_edge_litert'", name="ai_edge_litert"), "not installed"),
        (ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers"), "flatbuffers"),
        (AttributeError("_ARRAY_API not found"), "numpy<2"),
        (OSError("libc.so.6: version `GLIBC_2.34' not found"), "GLIBC_2.34"),
    ],
)
def test_reasons_are_those_an_owner_can_act_on(error: Exception, expected: str) -> None:
    assert expected in explain("ai-edge-litert", error)


def test_the_cause_behind_the_cause_is_read() -> None:
    """The numpy clash may hide two links deep, and a chain that bites its tail ends."""
    inner, outer = ImportError("numpy.core.multiarray failed to import"), RuntimeError("boom")
    outer.__cause__, inner.__context__ = inner, outer
    assert "numpy<2" in explain("tflite-runtime", outer)


# ---- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("MOD-02", breaks="chappe.vision.runtime:Runtime.load")
@pytest.mark.parametrize("content", [b"", b"no model at all", PROBE_MODEL[:100], bytes(4096)], ids=len)
def test_bytes_that_are_no_model_are_refused(runtime: Runtime, content: bytes) -> None:
    """Random, empty or truncated bytes give an error that names the file and how much was found."""
    if runtime.name == "tflite-runtime":
        pytest.skip("tflite-runtime does not check; the hash has been checked before")
    with pytest.raises(ModelError, match=rf"palm\.tflite: expected a TFLite model, found {len(content)} bytes"):
        runtime.load(content, file="palm.tflite")


def test_the_contract_is_met_by_the_right_model(runtime: Runtime) -> None:
    """Names and shapes as declared pass, and are what the model reports."""
    model = runtime.load(PROBE_MODEL)
    model.require({"x": (1, 2)}, {"y": (1, 2)})
    assert (model.inputs, model.outputs) == ({"x": (1, 2)}, {"y": (1, 2)})


@pytest.mark.feature("MOD-02", breaks="chappe.vision.runtime:Model.require")
@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"x": (1, 3)}, {"y": (1, 2)}, r"m\.tflite: input tensor x: expected shape \[1, 3\], found \[1, 2\]"),
        ({"x": (1, 2)}, {"y": (2, 2)}, r"m\.tflite: output tensor y: expected shape \[2, 2\], found \[1, 2\]"),
        ({"input_1": (1, 2)}, {"y": (1, 2)}, r"input tensors: expected \['input_1'\], found \['x'\]"),
        ({"x": (1, 2)}, {"y": (1, 2), "z": (1, 2)}, r"output tensors: expected \['y', 'z'\], found \['y'\]"),
    ],
)
def test_a_model_with_other_tensors_is_refused(
    runtime: Runtime, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], message: str
) -> None:
    """The message names the file, the tensor, what was expected and what was found."""
    with pytest.raises(ModelError, match=message):
        runtime.load(PROBE_MODEL).require(inputs, outputs, file="m.tflite")


def test_a_model_of_another_type_is_refused() -> None:
    """A quantised twin has the same names and shapes, and would read floats as garbage."""

    class Quantised(Liar):
        def get_input_details(self) -> list[dict[str, Any]]:
            return [{"name": "x", "index": 0, "shape": np.array([1, 2]), "dtype": np.uint8}]

    with pytest.raises(ModelError, match="expected float32, found uint8"):
        Model(Quantised()).require({"x": (1, 2)}, {"y": (1, 2)})


def test_an_input_can_be_filled_in_place(runtime: Runtime) -> None:
    """A filled tensor needs no feed, and keeps its content for later runs."""
    model = runtime.load(PROBE_MODEL)

    def write(view: Any) -> None:
        view[...] = [[0.5, 8.0]]

    model.fill("x", write)
    for _ in range(2):
        assert model.invoke({})["y"].tolist() == [[1.0, 16.0]]


def test_results_are_copies(runtime: Runtime) -> None:
    """The arrays of one run do not change with the next."""
    model = runtime.load(PROBE_MODEL)
    first = model.invoke({"x": np.array([[1.0, 1.0]], np.float32)})["y"]
    model.invoke({"x": np.array([[9.0, 9.0]], np.float32)})
    assert first.tolist() == [[2.0, 2.0]]


# ---- both runtimes ---------------------------------------------------------------------------------------------------

COMPARE = """
import json, sys
import numpy as np
from chappe.vision.runtime import CANDIDATES, find_runtime
name, palm, landmark = sys.argv[1:4]
runtime = find_runtime([one for one in CANDIDATES if one.name == name])
rng = np.random.default_rng(7)
answers = {}
for role, path, size in (("palm", palm, 192), ("landmark", landmark, 224)):
    model = runtime.load(open(path, "rb").read())
    outputs = model.invoke({"input_1": rng.random((1, size, size, 3), np.float32)})
    answers[role] = {key: value.ravel().tolist() for key, value in outputs.items()}
print(json.dumps({"runtime": runtime.name, "answers": answers}))
"""


def other_python(checkout: Path) -> Path:
    named = os.environ.get("CHAPPE_NUMPY1_PYTHON")
    python = Path(named) if named else checkout / "build" / "venv-numpy1" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no Python with numpy<2 and tflite-runtime at {python} (set CHAPPE_NUMPY1_PYTHON)")
    return python


def answers_of(python: Path | str, name: str, files: list[str], checkout: Path) -> dict[str, dict[str, list[float]]]:
    path = os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [python, "-c", COMPARE, name, *files],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(checkout / "daemon"), path]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["runtime"] == name
    answers: dict[str, dict[str, list[float]]] = told["answers"]
    return answers


@pytest.mark.feature("VIS-01", breaks="chappe.vision.runtime:Model.invoke")
def test_both_runtimes_give_the_same_numbers(checkout: Path, tmp_path: Path, contents_of: Any) -> None:
    """The same input on both: palm outputs equal, landmarks within 2.3e-5 px."""
    files = []
    for role in ("palm", "landmark"):
        path = tmp_path / f"{role}.tflite"
        path.write_bytes(contents_of("hands-lite")[role])
        files.append(str(path))
    old = answers_of(other_python(checkout), "tflite-runtime", files, checkout)
    new = answers_of(sys.executable, "ai-edge-litert", files, checkout)
    assert old["palm"] == new["palm"]
    for name, values in new["landmark"].items():
        assert np.abs(np.array(values) - np.array(old["landmark"][name])).max() <= 2.3e-5


PIPELINE = """
import json, sys
from pathlib import Path
from chappe.edge import models
from chappe.vision.hands import HandPipeline, HandSettings
from chappe.vision.picture import decode
from chappe.vision.runtime import CANDIDATES, find_runtime
runtime = find_runtime([one for one in CANDIDATES if one.name == "tflite-runtime"])
manifest = models.load_manifests()["hands-lite"]
contents = models.read(manifest, [Path(sys.argv[1])])
found = {}
with HandPipeline(manifest, contents, HandSettings(backend="pillow"), runtime=runtime) as pipeline:
    for path in map(Path, sys.argv[2:]):
        found[path.stem] = [hand.gesture for hand in pipeline.detect(decode(path.read_bytes()))]
print(json.dumps({"runtime": runtime.name, "found": found}))
"""


def test_the_whole_pipeline_runs_on_the_old_runtime(checkout: Path, tmp_path: Path, contents_of: Any) -> None:
    """tflite-runtime beside numpy 1, the choice of 32-bit systems: all eight bundled frames are read right."""
    python = other_python(checkout)
    manifest = load_manifests(checkout / "models")["hands-lite"]
    for file in manifest.files:
        (tmp_path / file.file).write_bytes(contents_of("hands-lite")[file.role])
    pictures = [str(path) for path in (checkout / "config" / "frames").glob("*.png")]
    done = subprocess.run(
        [python, "-c", PIPELINE, str(tmp_path), *pictures],
        env={**os.environ, "PYTHONPATH": str(checkout / "daemon")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["runtime"] == "tflite-runtime"
    assert told["found"] == {Path(picture).stem: [Path(picture).stem] for picture in pictures}


def test_models_of_two_threads_run_at_the_same_time(runtime: Runtime) -> None:
    """Each thread has a model of its own, over the same bytes; no answer is ever another thread's."""
    wrong: list[float] = []
    together = threading.Barrier(2)

    def work(number: float) -> None:
        model = runtime.load(PROBE_MODEL)
        together.wait(10)
        for step in range(500):
            value = number * 1000 + step
            if model.invoke({"x": np.full((1, 2), value, np.float32)})["y"].tolist() != [[2 * value] * 2]:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
