"""Sets of photos: a folder, a manifest or a Hugging Face dataset on disk."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from auditor import oddities
from auditor.errors import ImagesError
from auditor.forms import list_photos
from auditor.labelling import Labelling
from auditor.listings import Rows
from auditor.photos import AS_STORED, Decoding, Note, UnreadablePhoto, decode, room
from auditor.readings import ClassMatcher
from auditor.record import Remark
from auditor.storage import digest_bytes, digest_value

__all__ = ["ImageSet", "load"]

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class ImageSet:
    """Photos that were read and decoded once without fault, in the order of their ids.

    Attributes:
        ids: unique and stable names: the path below the folder, or the row of a table.
        labels: class indices of the model, or `None` for a pool.
        digests: SHA-256 of each photo's bytes.
        quarantined: photos left out, each with the reason.
        read: the bytes of the photo at a position of `ids`.
        remarks: what the source and its photos turned out to be.
        readings: class indices by other readings of the labels (`auditor.readings.READINGS`), which
            fit all labels too and were not taken.
        decoding: how what their files leave open is settled.
        digest: SHA-256 of ids, labels and digests, and of a decoding other than the usual one.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...] | None
    digests: tuple[str, ...]
    quarantined: tuple[tuple[str, str], ...]
    read: Callable[[int], bytes] = field(repr=False, compare=False)
    remarks: tuple[Remark, ...] = ()
    readings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    decoding: Decoding = AS_STORED
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("the ids of photos must be unique")
        if len(self.digests) != len(self.ids):
            raise ValueError(f"{len(self.digests)} digests for {len(self.ids)} photos")
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise ValueError(f"{len(self.labels)} labels for {len(self.ids)} photos")
        content = [list(self.ids), None if self.labels is None else list(self.labels)]
        content.append(list(self.digests))
        if self.decoding != AS_STORED:
            content.append(list(map(str, dataclasses.astuple(self.decoding))))
        object.__setattr__(self, "digest", digest_value(content))

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> Image.Image:
        """The photo at position `i`: RGB, upright.

        Raises:
            ImagesError: the file was changed or removed since the set was loaded.
        """
        return self._decoded(i, self._data(i))

    def _data(self, i: int) -> bytes:
        try:
            data = self.read(i)
        except OSError as error:
            raise self._gone(i, error) from None
        if digest_bytes(data) != self.digests[i]:
            raise ImagesError(
                f"The photo {self.ids[i]} was changed while the audit was running; "
                "run it again on photos that stay as they are."
            )
        return data

    def _decoded(self, i: int, data: bytes) -> Image.Image:
        try:
            return decode(data, self.decoding).image
        except UnreadablePhoto as error:
            raise self._gone(i, error) from None

    def _gone(self, i: int, error: Exception) -> ImagesError:
        return ImagesError(
            f"The photo {self.ids[i]} could be read before and cannot be read now: {error}."
        )

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """The photos at these positions, in this order; `quarantined` stays as it is."""
        rows = tuple(int(i) for i in indices)
        return ImageSet(
            ids=tuple(self.ids[i] for i in rows),
            labels=None if self.labels is None else tuple(self.labels[i] for i in rows),
            digests=tuple(self.digests[i] for i in rows),
            quarantined=self.quarantined,
            read=Rows(self.read, rows),
            remarks=self.remarks,
            readings=_at(self.readings, rows),
            decoding=self.decoding,
        )

    def batches(self, fit: Callable[[Image.Image], Tensor], *, size: int) -> Iterator[Tensor]:
        """All photos in order, as tensors of shape (at most `size`, 3, height, width).

        Photos are decoded and fitted in threads ahead of use, at most two batches ahead.

        Args:
            fit: makes a tensor of shape (3, height, width) of a photo (`Preprocess.fit`).
            size: photos in a batch.
        """
        if size < 1:
            raise ValueError(f"a batch must hold at least one photo, not {size}")
        pending: deque[Future[Tensor]] = deque()
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        try:
            ahead = 0
            for start in range(0, len(self), size):
                stop = min(start + (1 + BATCHES_AHEAD) * size, len(self))
                pending.extend(pool.submit(self._fitted, i, fit) for i in range(ahead, stop))
                ahead = stop
                count = min(size, len(self) - start)
                yield torch.stack([pending.popleft().result() for _ in range(count)])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fitted(self, i: int, fit: Callable[[Image.Image], Tensor]) -> Tensor:
        data = self._data(i)
        with room(data):
            return fit(self._decoded(i, data))


def load(
    spec: str,
    *,
    class_names: Sequence[str],
    class_ids: Sequence[str] | None,
    labelled: bool,
    labels: str = "auto",
    label_column: str | None = None,
    decoding: Decoding = AS_STORED,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read and decode every photo of a source once, and keep those without fault.

    `auditor.forms.list_photos` says which sources there are. Labels match by class index, folder id
    or name, all of them in one way; where two ways fit and differ, it is asked.

    Args:
        spec: path of the folder, manifest or dataset.
        class_names: the model's class names.
        class_ids: the model's folder ids such as WordNet ids, where it has them.
        labelled: whether each photo needs a class of the model.
        labels: how labels are read: one of `auditor.readings.READINGS`, or "auto".
        label_column: the column of labels, where the source has columns.
        decoding: the audited model's, for what the files leave open.
        on_progress: called with the photos done and all photos after each one.

    Raises:
        ImagesError: nothing can be listed or read, or labels do not match the model's classes.
    """
    matcher = ClassMatcher(class_names, class_ids)
    labelling = Labelling(matcher, labels, label_column) if labelled else None
    listing = list_photos(spec, labelling=labelling)
    total = len(listing.ids)
    if total == 0:
        raise ImagesError(f"{spec} holds no photos; check the path.")
    kept: list[int] = []
    digests: list[str] = []
    quarantined: list[tuple[str, str]] = []
    noted: list[tuple[str, frozenset[Note], int | None]] = []
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        for i, seen in enumerate(pool.map(_Check(listing.read, decoding), range(total))):
            if seen.fault is None:
                kept.append(i)
                digests.append(seen.digest)
                if seen.notes:
                    noted.append((listing.ids[i], seen.notes, seen.peak))
            else:
                quarantined.append((listing.ids[i], seen.fault))
            if on_progress is not None:
                on_progress(i + 1, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if not kept:
        name, reason = quarantined[0]
        raise ImagesError(f"No photo of {spec} can be read; the first, {name}: {reason}.")
    if quarantined:
        logger.warning("%d of %d photos of %s cannot be used.", len(quarantined), total, spec)
    return ImageSet(
        ids=tuple(listing.ids[i] for i in kept),
        labels=None if listing.labels is None else tuple(listing.labels[i] for i in kept),
        digests=tuple(digests),
        quarantined=tuple(quarantined),
        read=Rows(listing.read, tuple(kept)),
        remarks=(
            *listing.remarks,
            *oddities.remarks(noted, total=len(kept), source=spec, decoding=decoding),
        ),
        readings=_at(listing.readings, kept),
        decoding=decoding,
    )


def _at(readings: Mapping[str, tuple[int, ...]], rows: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Labels of some rows, by each reading."""
    return {name: tuple(labels[i] for i in rows) for name, labels in readings.items()}


@dataclass(frozen=True)
class _Seen:
    """The digest of a photo and what its file holds, or what is wrong with it."""

    digest: str = ""
    fault: str | None = None
    notes: frozenset[Note] = frozenset()
    peak: int | None = None


@dataclass(frozen=True)
class _Check:
    """Reads and decodes the photo of a row, and keeps none of it."""

    read: Callable[[int], bytes]
    decoding: Decoding

    def __call__(self, i: int) -> _Seen:
        try:
            data = self.read(i)
            with room(data):
                photo = decode(data, self.decoding)
        except UnreadablePhoto as error:
            return _Seen(fault=str(error))
        except FileNotFoundError:
            return _Seen(fault="the file is missing")
        except OSError as error:
            return _Seen(fault=f"the file cannot be read ({error.strerror or error})")
        except ValueError as error:  # a path that no file system can hold
            return _Seen(fault=f"the file cannot be read ({error})")
        return _Seen(digest_bytes(data), None, photo.notes, photo.peak)
