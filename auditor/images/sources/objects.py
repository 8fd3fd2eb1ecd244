"""Photos that are at hand in Python: a data set of torchvision, or pictures with labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from auditor.core.phrases import shown
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling, column
from auditor.images.listings import (
    Listing,
    PhotoFiles,
    list_rows,
    see_few_rows,
    told_apart,
    utf8,
)

__all__ = ["Photos", "list_objects"]


class Photos(Protocol):
    """A data set of torchvision, or any sequence: of pictures with labels, or of pictures alone.

    A picture is a PIL image, the path of a file, or an array or tensor: of uint8, or of floats in
    [0, 1], of shape (H, W, 3) or (3, H, W). A label is the index of a class of the model, a folder
    id or a name.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Pictures:
    """Gives the pictures of a data set as files would have them."""

    photos: Photos
    labelled: bool

    def __call__(self, i: int) -> bytes:
        """The bytes of the picture at position `i`; raises `OSError`."""
        item = self.photos[i]
        picture = item[0] if self.labelled or isinstance(item, tuple) else item
        if isinstance(picture, str | Path):
            return PhotoFiles((str(picture),))(0)
        buffer = io.BytesIO()
        _image(picture).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def list_objects(photos: Photos, *, labelling: Labelling | None) -> Listing:
    """The photos of an object, named by their position or, where it has files, by their path.

    Args:
        photos: the object.
        labelling: how labels are understood; `None` lists photos without labels.

    Raises:
        ImagesError: it has no labels, or they match no class of the model.
    """
    count, source = len(photos), f"{type(photos).__name__} of {len(photos)} photos"
    see_few_rows(count, source)
    samples = getattr(photos, "samples", None)  # of torchvision's data sets of folders
    if isinstance(samples, Sequence) and len(samples) == count and _are_files(samples):
        paths = tuple(str(path) for path, _ in samples)
        ids = told_apart(utf8(_short(path)) for path in paths)
        read: Any = PhotoFiles(paths)
        labels = [label for _, label in samples]
    else:
        ids = [f"{row:0{len(str(count))}}" for row in range(count)]
        read = Pictures(photos, labelling is not None)
        labels = [] if labelling is None else _labels(photos, source)
    names = getattr(photos, "classes", None)
    declared = None
    if names is not None and all(isinstance(n, int) and 0 <= n < len(names) for n in labels):
        declared = tuple(map(str, names))
    texts = [str(label) if declared is None else declared[label] for label in labels]
    columns = [column("label", texts, declared=declared)] if labelling is not None else []
    return list_rows(ids, read, columns, labelling, source=source)


def _are_files(samples: Sequence[Any]) -> bool:
    first = samples[0] if len(samples) else None
    return isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], str | Path)


def _short(path: str) -> str:
    """A file's folder and name."""
    return "/".join(Path(path).parts[-2:])


def _labels(photos: Photos, source: str) -> list[Any]:
    """The labels of a data set, without decoding pictures where it lists them."""
    listed = getattr(photos, "targets", None)
    if listed is not None and len(listed) == len(photos):
        return [_plain(label) for label in listed]
    labels = []
    for row in range(len(photos)):
        item = photos[row]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise ImagesError(
                f"Item {row} of the {source} is no pair of a picture and a label; give pairs."
            )
        labels.append(_plain(item[1]))
    return labels


def _plain(label: Any) -> int | str:
    """A label as a Python number or text."""
    value = label.item() if isinstance(label, np.generic | torch.Tensor) else label
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ImagesError(
            f"The label {shown(str(label))} is a {type(label).__name__}; give the index of a "
            "class, a folder id or a name."
        )
    return value


def _image(picture: Any) -> Image.Image:
    """A picture as PIL has it.

    Raises:
        OSError: it is none, or its values are no pixels.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise OSError(f"a {type(picture).__name__} is no picture of three dimensions")
    if picture.shape[0] == 3 and picture.shape[2] != 3:
        picture = picture.transpose(1, 2, 0)
    if picture.shape[2] != 3:
        raise OSError(f"its shape {picture.shape} has no three channels")
    if picture.dtype != np.uint8:
        if not np.issubdtype(picture.dtype, np.floating):
            raise OSError(f"its values are of type {picture.dtype}, not uint8 or floats")
        if not (picture.min() >= 0 and picture.max() <= 1):
            raise OSError(
                "its values leave [0, 1], as if they were normalised; give the pictures without "
                "the model's own preprocessing"
            )
        picture = np.round(picture * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(picture))
