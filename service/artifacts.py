"""The model files in a folder: found, read and checked without loading a network.

A file's metadata stand in top-level fields, so they can be read by stepping over the weights: a file of the precision
that is not served costs nothing but this.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.checksums import check_listed, check_sums, read_sums
from service.errors import StartupError
from service.files import opened
from service.manifest import Manifest, ManifestError, Precision
from service.protobuf import external_locations, fields, read_entry

logger = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)\.(?P<precision>fp32|fp16)\.onnx")
_GRAPH_FIELD, _METADATA_FIELD = 7, 14  # ModelProto.graph, ModelProto.metadata_props
_MAX_METADATA_BYTES = 1_000_000


class ArtifactError(StartupError):
    """A model file cannot be served. The message is one line that begins with its path."""


@dataclass(frozen=True)
class Artifact:
    """One model file and what it says of itself."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model: one name and version, one file for each precision."""

    name: str
    by_precision: Mapping[Precision, Artifact]

    def prefer(self, precision: Precision) -> Artifact:
        """The file of `precision`, or the one there is."""
        return self.by_precision.get(precision) or next(iter(self.by_precision.values()))


def find_models(folder: Path) -> list[ModelFiles]:
    """Read and check every NAME.PRECISION.onnx in `folder`, sorted by name.

    Raises:
        StartupError: there is no such folder, or it cannot be read, or there is no model in it.
        StartupError: there is a SHA256SUMS in it that a file does not fit, or that does not list a model or a file in
            which one keeps weights.
        ArtifactError: a file is cut, foreign, without metadata, of a newer schema, under another's name, or at odds
            with the file of the other precision.
    """
    paths = _model_paths(folder)
    sums = read_sums(folder)
    if sums is not None:
        check_sums(folder, sums)
    by_name: dict[str, dict[Precision, Artifact]] = {}
    for path in paths:
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            logger.warning("%s is not served: model files are named NAME.fp32.onnx or NAME.fp16.onnx", path)
            continue
        if sums is not None:
            _check_all_listed(path, sums)
        artifact = read_artifact(path)
        stated = f"{artifact.manifest.name}.{artifact.manifest.precision}.onnx"
        if stated != path.name:
            raise ArtifactError(
                f"{path}: its metadata says that it is {stated}: give it that name again, or "
                "export it by another one with --name"
            )
        by_name.setdefault(artifact.manifest.name, {})[artifact.manifest.precision] = artifact
    if not by_name:
        raise StartupError(f"{folder}: no NAME.PRECISION.onnx in it (SIGHTLINE_MODELS_DIR)")
    for artifacts in by_name.values():
        _check_agreement(list(artifacts.values()))
    return [ModelFiles(name, artifacts) for name, artifacts in by_name.items()]


def _model_paths(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".onnx")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StartupError(f"{folder}: no such folder of models (SIGHTLINE_MODELS_DIR)") from error
    except OSError as error:  # not there for whoever this runs as, for one
        reason = error.strerror or error
        raise StartupError(f"{folder}: the models in it cannot be read: {reason} (SIGHTLINE_MODELS_DIR)") from error


def read_artifact(path: Path) -> Artifact:
    """Read one model file's manifest.

    Raises:
        ArtifactError: it cannot be read, is no whole ONNX model, or its metadata are missing or invalid.
    """
    with _reading(path) as file:
        return Artifact(path, Manifest.parse(_read_metadata(file)))


def _check_all_listed(path: Path, sums: dict[str, str]) -> None:
    check_listed(path.parent, path.name, sums)
    with _reading(path) as file:
        locations = external_locations(file)
    for location in sorted(locations):
        check_listed(path.parent, Path(location).as_posix(), sums)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """A model file to read, whose faults become an `ArtifactError`."""
    try:
        with opened(path) as file:
            yield file
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except EOFError as error:
        raise ArtifactError(f"{path}: cut short, or not an ONNX model") from error
    except ValueError as error:  # ManifestError is one
        raise ArtifactError(f"{path}: {error}") from error


def _check_agreement(artifacts: list[Artifact]) -> None:
    first, *others = artifacts
    for other in others:
        for field in ("version", "task", "input", "preparation", "classes"):
            if getattr(first.manifest, field) != getattr(other.manifest, field):
                raise ArtifactError(
                    f"{other.path}: another {field} than {first.path.name}; export every precision from one checkpoint"
                )


def _read_metadata(file: BinaryIO) -> dict[str, str]:
    metadata: dict[str, str] = {}
    has_graph = False
    size_bytes = file.seek(0, 2)
    file.seek(0)
    for field, length in fields(file, size_bytes):
        end = file.tell() + length
        has_graph = has_graph or field == _GRAPH_FIELD
        if field == _METADATA_FIELD:
            if length > _MAX_METADATA_BYTES:
                raise ManifestError(f"its metadata are larger than {_MAX_METADATA_BYTES} bytes")
            key, value = read_entry(file, end)
            metadata[key] = value
        file.seek(end)
    if not has_graph:
        raise ManifestError("not an ONNX model")
    return metadata
