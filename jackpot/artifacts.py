"""Files of weights and masks: safetensors with a SHA-256 of all they hold; never pickles.

A bit flipped on disk or on the way would otherwise load silently, or pass as a slightly worse
ticket. Each file carries the digest of its tensors and metadata in its own metadata.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

Arrays = dict[str, np.ndarray]
Mask = dict[str, np.ndarray]
_DIGEST, _SHAPES, _SURVIVORS = "sha256", "shapes", "survivors"


class ArtifactError(Exception):
    """A file of weights or a mask cannot be used; the message names it and what is wrong."""


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes one file atomically: whole and on disk under its name, or not at all."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = dict(metadata) | {_DIGEST: _digest(contiguous, metadata)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(to_bytes(contiguous, metadata=described))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a file that `write` wrote.

    Raises:
        ArtifactError: no file, not a safetensors file, or contents that its digest does not match.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged, or not a safetensors file ({error})") from None
    expected = metadata.pop(_DIGEST, None)
    if expected is None:
        raise ArtifactError(f"{path}: carries no SHA-256; it was not written by this program")
    if _digest(arrays, metadata) != expected:
        raise ArtifactError(f"{path}: damaged: its contents do not match its SHA-256")
    return arrays, metadata


def write_mask(path: Path, mask: Mask, metadata: Mapping[str, str]) -> None:
    """Writes a mask, eight entries to a byte."""
    shapes = {name: entry.shape for name, entry in mask.items()}
    packed = {name: np.packbits(entry) for name, entry in mask.items()}
    write(path, packed, dict(metadata) | {_SHAPES: json.dumps(shapes)})


def read_mask(path: Path) -> tuple[Mask, dict[str, str]]:
    """A mask and its metadata, paths in the order in which they were written.

    Raises:
        ArtifactError: see `read`; or a file that holds no mask.
    """
    arrays, metadata = read(path)
    try:
        shapes = {name: tuple(shape) for name, shape in json.loads(metadata[_SHAPES]).items()}
        mask = {
            name: np.unpackbits(arrays[name], count=int(np.prod(shape))).astype(bool).reshape(shape)
            for name, shape in shapes.items()
        }
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: holds no mask ({error!r})") from None
    return mask, metadata


def write_weights(
    path: Path, weights: Arrays, metadata: Mapping[str, str], mask: Mask | None = None
) -> None:
    """Writes weights; of those that `mask` prunes, only the surviving values."""
    mask = mask or {}
    stored = {name: array[mask[name]] if name in mask else array for name, array in weights.items()}
    write(path, stored, dict(metadata) | {_SURVIVORS: json.dumps(list(mask))})


def read_weights(path: Path, mask: Mask | None = None) -> tuple[Arrays, dict[str, str]]:
    """Weights at full shape, 0.0 where `mask` prunes, and the file's metadata.

    Raises:
        ArtifactError: see `read`; or a file of surviving values read without the mask they fit.
    """
    arrays, metadata = read(path)
    try:
        survivors = [str(name) for name in json.loads(metadata.get(_SURVIVORS, "[]"))]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: does not say what it holds ({error!r})") from None
    for name in survivors:
        if name not in arrays:
            raise ArtifactError(f"{path}: lacks '{name}', which it says that it holds")
        if mask is None or name not in mask or arrays[name].size != int(mask[name].sum()):
            raise ArtifactError(
                f"{path}: holds the surviving values of '{name}' only; read it with the mask of "
                "the same run"
            )
        full = np.zeros(mask[name].shape, arrays[name].dtype)
        full[mask[name]] = arrays[name]
        arrays[name] = full
    return arrays, metadata


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
