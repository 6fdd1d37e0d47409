"""The one adapter over the TFLite runtimes: ai-edge-litert first, tflite-runtime second.

An import that succeeds proves nothing here. `tflite-runtime` 2.14 was compiled against numpy 1 and imports happily beside numpy 2;
only building an `Interpreter` then fails. So a runtime is chosen by building an interpreter over a tiny model, invoking it and
looking at the answer; this is the single place in `chappe.vision` that catches every exception.

An interpreter belongs to one thread: build one `Model` per thread, never share one. `invoke` releases the interpreter lock of
Python, so other threads go on meanwhile.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chappe.errors import ModelError

Array = npt.NDArray[Any]

# One float32 ADD of tensor `x` [1, 2] with itself, giving `y`: 296 bytes of flatbuffer (identifier TFL3), made once with the
# schema bindings of ai-edge-litert. Embedded so that a runtime can be judged where no model has been pulled yet.
PROBE_MODEL = base64.b85decode(
    "7ytkOR7OlQ000gE7yuLi5C9AS2mk~C4gdfE6aWAK8~^|SAOHXW@Bjb+0{{R30RR911ONa482|tO00000000000RR915C8xG3;+}W"
    "5C9AS2mk~C3;+NC5C8xGPyhe`Q~&?~SO5S30RR916aWAK000gE6aWAK5C9AS3jhQF4gdfE5C8xG0000B3;+NC5C8xGc>n+Z0RR91"
    "0RR910ssI200000000000RR910RR910RR91000000ssI2Gynhq1ONa4;Q#;s2mk;83;+NC0RR91c>n+a0ssI20RR910ssI23;+xO"
    "2mk;8000C43;+NC2mk;83;+NC0RR91cmMzZ0ssI20RR910ssI20RR912mk;81ONm81ONa4"
)


class Model:
    """A model loaded into an interpreter, addressed by tensor names.

    Args:
        interpreter: an interpreter whose tensors are allocated.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
        self._outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input tensor by name."""
        return {name: tuple(int(size) for size in detail["shape"]) for name, detail in self._inputs.items()}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output tensor by name."""
        return {name: tuple(int(size) for size in detail["shape"]) for name, detail in self._outputs.items()}

    def require(
        self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]], *, file: str = "the model"
    ) -> None:
        """Check the tensor contract: float32 tensors with exactly these names and shapes.

        Raises:
            ModelError: if a name, a shape or a type differs; the message names the file, what was expected and what was found.
        """
        for kind, wanted, details in (("input", inputs, self._inputs), ("output", outputs, self._outputs)):
            if set(wanted) != set(details):
                raise ModelError(f"{file}: {kind} tensors: expected {sorted(wanted)}, found {sorted(details)}")
            for name, shape in wanted.items():
                found = [int(size) for size in details[name]["shape"]]
                if found != list(shape):
                    raise ModelError(f"{file}: {kind} tensor {name}: expected shape {list(shape)}, found {found}")
                kept = np.dtype(details[name]["dtype"]).name
                if kept != "float32":
                    raise ModelError(f"{file}: {kind} tensor {name}: expected float32, found {kept}")

    def fill(self, name: str, write: Callable[[Array], None]) -> None:
        """Let `write` fill an input tensor in place, which saves a copy of every picture.

        Args:
            name: the input tensor.
            write: receives a float32 view of the tensor, shape as in `inputs`; it must not keep it, or the next run is refused.
        """
        write(self._interpreter.tensor(self._inputs[name]["index"])())

    def invoke(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: float32 arrays by name, in the tensor's shape: one per input tensor that `fill` has not filled.

        Returns:
            A fresh float32 array per output tensor, by name.
        """
        interpreter = self._interpreter
        for name, array in feeds.items():
            interpreter.set_tensor(self._inputs[name]["index"], array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}


@dataclass(frozen=True)
class Candidate:
    """A package that may bring an interpreter.

    Attributes:
        name: name of the distribution, as pip knows it.
        load: imports the package and returns its `Interpreter` class and its version.
    """

    name: str
    load: Callable[[], tuple[Any, str]]


@dataclass(frozen=True)
class Runtime:
    """A TFLite runtime that has proven that it works.

    Attributes:
        name: distribution, ``ai-edge-litert`` or ``tflite-runtime``.
        version: its version.
        interpreter: the `Interpreter` class of that package.
        refused: candidates tried before, with the reason why each was refused.
    """

    name: str
    version: str
    interpreter: Any
    refused: tuple[tuple[str, str], ...] = ()

    def load(self, content: bytes, threads: int = 1, *, file: str = "the model") -> Model:
        """Build an interpreter over a model file's bytes, for use by one thread.

        Args:
            content: the bytes of a ``.tflite`` file. They must have been verified by their hash: ai-edge-litert checks the structure of
                what it is given, tflite-runtime 2.14 does not and takes the whole process down over a truncated file.
            threads: threads of one `invoke`, at least 1.
            file: how messages name the model.

        Raises:
            ModelError: if the bytes are no model this runtime can run.
        """
        try:
            interpreter = self.interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{file}: expected a TFLite model, found {len(content)} bytes that {self.name} refuses: {error}",
                remedy="run `chappe models verify`, then `chappe models pull`",
            ) from error
        return Model(interpreter)


def _interpreter_of(module: str) -> Callable[[], tuple[Any, str]]:
    def load() -> tuple[Any, str]:
        package = importlib.import_module(module.partition(".")[0])
        return importlib.import_module(module).Interpreter, str(getattr(package, "__version__", "unknown"))

    return load


CANDIDATES = (
    Candidate("ai-edge-litert", _interpreter_of("ai_edge_litert.interpreter")),
    Candidate("tflite-runtime", _interpreter_of("tflite_runtime.interpreter")),
)


def find_runtime(candidates: Sequence[Candidate] = CANDIDATES) -> Runtime:
    """The first candidate whose interpreter really computes.

    Args:
        candidates: what to try, best first.

    Raises:
        ModelError: if none works; the message gives each one's reason and the remedy.
    """
    refused: list[tuple[str, str]] = []
    for candidate in candidates:
        try:
            interpreter, version = candidate.load()
            runtime = Runtime(candidate.name, version, interpreter, tuple(refused))
            _probe(runtime)
        except Exception as error:  # noqa: BLE001  (a broken binary package may raise anything; each reason is kept and shown)
            refused.append((candidate.name, explain(candidate.name, error)))
        else:
            return runtime
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused) or "nothing to try"
    raise ModelError(
        f"no TFLite runtime works: {reasons}",
        remedy="pip install ai-edge-litert, or on Python 3.11: pip install tflite-runtime==2.14.0 'numpy<2'",
        code="tflite",
    )


def _probe(runtime: Runtime) -> None:
    answer = runtime.load(PROBE_MODEL).invoke({"x": np.array([[1.0, 2.5]], np.float32)})["y"]
    if answer.tolist() != [[2.0, 5.0]]:
        raise ModelError(f"the probe model answered {answer.tolist()} instead of [[2.0, 5.0]]")


def explain(name: str, error: BaseException) -> str:
    """Why a runtime was refused, in words an owner can act on.

    Args:
        name: distribution that failed.
        error: what it raised; its causes are read too, since the numpy clash hides behind a SystemError.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(name.replace("-", "_")):
        return "not installed"
    texts = [f"{type(link).__name__}: {link}" for link in _chain(error)]
    if any(mark in text for text in texts for mark in ("_ARRAY_API", "multiarray", "CreateWrapperFrom")):
        return f"was built for numpy 1 but numpy {np.__version__} is installed: pip install 'numpy<2'"
    return texts[0]


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
