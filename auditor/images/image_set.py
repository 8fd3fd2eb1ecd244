"""Sets of photos: a folder, a manifest or a Hugging Face dataset on disk."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from auditor.core.storage import digest_bytes, digest_value
from auditor.errors import ImagesError
from auditor.images import copies, oddities
from auditor.images.copies import Look, Looks
from auditor.images.decoding import AS_STORED, Decoding, Note, UnreadablePhoto, decode, room
from auditor.images.label_columns import Labelling
from auditor.images.label_meaning import ClassMatcher
from auditor.images.listings import Listing, Rows
from auditor.images.sources.forms import list_photos
from auditor.images.sources.objects import Photos, list_objects
from auditor.record.schema import Remark

__all__ = ["ImageSet", "load", "recognised"]

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
        readings: class indices by other readings of the labels
            (`auditor.images.label_meaning.READINGS`), which fit all labels too and were not taken.
        decoding: how what their files leave open is settled.
        looks: by which copies are found; `None` where photos were not looked at.
        identities: the digests, but for copies of another set's photos, which have the digests
            of those (see `recognised`): photos that have one identity show one picture.
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
    looks: Looks | None = field(default=None, repr=False, compare=False)
    identities: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("the ids of photos must be unique")
        if len(self.digests) != len(self.ids):
            raise ValueError(f"{len(self.digests)} digests for {len(self.ids)} photos")
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise ValueError(f"{len(self.labels)} labels for {len(self.ids)} photos")
        object.__setattr__(self, "identities", self.identities or self.digests)
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
            looks=None if self.looks is None else self.looks.subset(rows),
            identities=tuple(self.identities[i] for i in rows),
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
    photos: str | Photos,
    *,
    class_names: Sequence[str],
    class_ids: Sequence[str] | None,
    labelled: bool,
    labels: str = "auto",
    label_column: str | None = None,
    decoding: Decoding = AS_STORED,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read and decode every photo of a source once, and keep those without fault, copies once.

    `auditor.images.sources.forms.list_photos` says which sources there are. Labels match by class
    index, folder id or name, all of them in one way; where two ways fit and differ, it is asked. Of
    copies (`auditor.images.copies`) the first stays, and none of a photo that stands in two
    classes.

    Args:
        photos: path of the folder, manifest or dataset; or the photos themselves, as
            `auditor.images.sources.objects` describes them.
        class_names: the model's class names.
        class_ids: the model's folder ids such as WordNet ids, where it has them.
        labelled: whether each photo needs a class of the model.
        labels: how labels are read: one of `auditor.images.label_meaning.READINGS`, or "auto".
        label_column: the column of labels, where the source has columns.
        decoding: the audited model's, for what the files leave open.
        on_progress: called with the photos done and all photos after each one.

    Raises:
        ImagesError: nothing can be listed or read, labels do not match the model's classes, or
            every photo stands in two of them.
    """
    matcher = ClassMatcher(class_names, class_ids)
    labelling = Labelling(matcher, labels, label_column) if labelled else None
    if isinstance(photos, str):
        spec, listing = photos, list_photos(photos, labelling=labelling)
    else:
        listing = list_objects(photos, labelling=labelling)
        spec = f"the {type(photos).__name__}"
    total = len(listing.ids)
    if total == 0:
        raise ImagesError(f"{spec} holds no photos; check the path.")
    seen = _checked(listing, decoding, on_progress)
    kept = [i for i, each in enumerate(seen) if each.look is not None]
    quarantined = [(listing.ids[i], each.fault) for i, each in enumerate(seen) if each.look is None]
    if not kept:
        name, reason = quarantined[0]
        raise ImagesError(f"No photo of {spec} can be read; the first, {name}: {reason}.")
    noted = [(listing.ids[i], seen[i].notes, seen[i].peak) for i in kept if seen[i].notes]
    if quarantined:
        logger.warning("%d of %d photos of %s cannot be used.", len(quarantined), total, spec)
    found = ImageSet(
        ids=tuple(listing.ids[i] for i in kept),
        labels=None if listing.labels is None else tuple(listing.labels[i] for i in kept),
        digests=tuple(seen[i].digest for i in kept),
        quarantined=tuple(quarantined),
        read=Rows(listing.read, tuple(kept)),
        remarks=(
            *listing.remarks,
            *oddities.remarks(noted, total=len(kept), source=spec, decoding=decoding),
        ),
        readings=_at(listing.readings, kept),
        decoding=decoding,
        looks=Looks.of([each.look for each in seen if each.look is not None]),
    )
    return _each_once(spec, found)


def _checked(
    listing: Listing, decoding: Decoding, on_progress: Callable[[int, int], None] | None
) -> list[_Seen]:
    """Every photo of a listing, read and decoded once."""
    total = len(listing.ids)
    seen = []
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        for each in pool.map(_Check(listing.read, decoding), range(total)):
            seen.append(each)
            if on_progress is not None:
                on_progress(len(seen), total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return seen


def recognised(pool: ImageSet, images: ImageSet) -> ImageSet:
    """The pool, with the identity of an audited photo for each of its photos that is its copy."""
    if pool is images or pool.looks is None or images.looks is None:
        return pool
    first = copies.firsts(images.looks.followed_by(pool.looks))[len(images) :]
    identities = [
        images.identities[i] if i < len(images) else own
        for i, own in zip(first.tolist(), pool.digests, strict=True)
    ]
    shared = np.flatnonzero(first < len(images))
    if not len(shared):
        return pool
    anew = sum(identities[i] != pool.digests[i] for i in shared)
    remark = Remark(
        code="copies-between-pool-and-photos",
        text=f"{len(shared)} of {len(pool)} photos of the pool are audited photos too ({anew} of "
        f"them in another file), such as {pool.ids[shared[0]]} and {images.ids[first[shared[0]]]}: "
        "the pool is not independent of the photos; give --pool others.",
    )
    return replace(pool, identities=tuple(identities), remarks=(*pool.remarks, remark))


def _each_once(spec: str, photos: ImageSet) -> ImageSet:
    """The photos without copies, and with what is said of those."""
    assert photos.looks is not None
    settled = copies.settle(spec, photos.ids, photos.labels, photos.looks)
    if not settled.kept:
        raise ImagesError(
            f"Every photo of {spec} stands in two classes or more, so that none has a known class; "
            "give each photo one class."
        )
    if not settled.remarks:
        return photos
    for remark in settled.remarks:
        logger.warning("%s", remark.text)
    left = photos.subset(settled.kept)
    return replace(left, remarks=(*left.remarks, *settled.remarks))


def _at(readings: Mapping[str, tuple[int, ...]], rows: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Labels of some rows, by each reading."""
    return {name: tuple(labels[i] for i in rows) for name, labels in readings.items()}


@dataclass(frozen=True)
class _Seen:
    """What a photo that can be used holds and looks like, or its `fault`."""

    fault: str = ""
    digest: str = ""
    look: Look | None = None
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
                look = copies.look(photo.image)
        except UnreadablePhoto as error:
            return _Seen(str(error))
        except FileNotFoundError:
            return _Seen("the file is missing")
        except OSError as error:
            return _Seen(f"the file cannot be read ({error.strerror or error})")
        except ValueError as error:  # a path that no file system can hold
            return _Seen(f"the file cannot be read ({error})")
        return _Seen("", digest_bytes(data), look, photo.notes, photo.peak)
