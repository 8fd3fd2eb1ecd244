"""The forms that photos come in: folders, manifests, data sets and tar files of photos."""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from auditor.core.phrases import counted, few
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling
from auditor.images.listings import Listing
from auditor.images.sources.fiftyone import is_export, list_export
from auditor.images.sources.folders import Tree, list_folder, search
from auditor.images.sources.hub import has_photos, list_shards, splits
from auditor.images.sources.huggingface_disk import list_saved
from auditor.images.sources.manifests import SUFFIXES_OF_TEXT, has_labels, list_manifest
from auditor.images.sources.webdataset import list_tars
from auditor.record.schema import Remark

__all__ = ["list_photos"]

PARQUET = {".parquet", ".pq"}
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
MAX_FILES = 100_000  # that a pattern of shards stands for


def list_photos(spec: str, *, labelling: Labelling | None) -> Listing:
    """List the photos of a source, whose form is told by what lies there.

    A source is a folder (of class folders, a Hugging Face data set on disk or from the hub, a
    FiftyOne export or WebDataset shards), a manifest (CSV, JSON Lines or Parquet), a Parquet or tar
    file with the photos in it, or a pattern of such files: `data/test-*.parquet`,
    `{000..012}.tar`.

    Args:
        spec: the path or pattern.
        labelling: how labels are understood; `None` lists photos without labels.

    Raises:
        ImagesError: the path cannot be used, or labels do not match the model's classes.
    """
    path = Path(spec)
    if os.path.isfile(spec):
        return _file(path, labelling)
    if os.path.isdir(spec):
        return _directory(path, labelling)
    if os.path.exists(spec):
        raise ImagesError(f"{spec} is neither a folder nor a regular file; give one of these.")
    files = _matching(spec)
    if not files:
        raise ImagesError(f"There is no folder or manifest {spec}; check the path.")
    return _shards(files, labelling, spec)


def _file(path: Path, labelling: Labelling | None) -> Listing:
    suffix = path.suffix.lower()
    if path.name.lower().endswith(PACKED):
        raise ImagesError(f"{path} is packed; unpack it and give the folder or the .tar file.")
    if path.name == "labels.json" and is_export(path.parent):
        return list_export(path.parent, labelling)
    if suffix == ".tar" or (suffix in PARQUET and has_photos(path)):
        return _shards([path], labelling, str(path))
    if suffix in {*SUFFIXES_OF_TEXT, *PARQUET}:
        return list_manifest(path, labelling)
    raise ImagesError(
        f"{path} is neither a folder nor a .csv, .tsv, .jsonl or .parquet manifest, nor a .tar "
        "file of photos."
    )


def _directory(path: Path, labelling: Labelling | None) -> Listing:
    if (path / "dataset_dict.json").is_file():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise ImagesError(f"{path} holds the splits {few(names)}; give the folder of one of them.")
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return list_saved(path, labelling)
    if is_export(path):
        return list_export(path, labelling)
    if (path / "samples.json").is_file() and (path / "metadata.json").is_file():
        raise ImagesError(
            f"{path} is an export of FiftyOne's own format; export it as "
            "FiftyOneImageClassificationDataset."
        )
    if labelling is not None:
        for name in ("metadata.csv", "metadata.jsonl"):  # as Hugging Face's imagefolder has them
            if (path / name).is_file() and has_labels(path / name):
                listing = list_manifest(path / name, labelling)
                named = {os.path.normpath(each) for each in listing.ids}
                left = [photo for photo, _ in search(path).photos if photo not in named]
                return _with_left(listing, len(left), f"which {name} does not name or label", path)
    tree = search(path)
    shards = _shards_of(path, tree)
    if not shards:
        return list_folder(path, tree, labelling)
    listing = _shards(shards, labelling, str(path))
    return _with_left(listing, len(tree.photos), "which lie beside its Parquet files", path)


def _with_left(listing: Listing, count: int, which: str, source: Path) -> Listing:
    """The listing, saying how many photos of the folder were passed over."""
    if not count:
        return listing
    said = f"{counted(count, 'photo')} of {source} {which} were passed over."
    remark = Remark(code="files-skipped", text=said)
    return dataclasses.replace(listing, remarks=(*listing.remarks, remark))


def _shards_of(path: Path, tree: Tree) -> list[Path]:
    """Parquet or tar files that hold the photos of a folder.

    Pictures may lie beside those of a snapshot of the hub, such as its README's.
    """
    others = sorted(map(Path, tree.others))
    tables = [other for other in others if other.suffix.lower() in PARQUET]
    if tree.photos:
        tables = [table for table in tables if table.parent in (path, path / "data")]
    tables = [table for table in tables if has_photos(table)]
    if tables or tree.photos:
        return tables
    return [other for other in others if other.suffix.lower() == ".tar"]


def _shards(paths: Sequence[Path], labelling: Labelling | None, source: str) -> Listing:
    suffixes = {path.suffix.lower() for path in paths}
    if suffixes == {".tar"}:
        return list_tars(paths, labelling, source=source)
    if not suffixes <= PARQUET or not all(has_photos(path) for path in paths):
        raise ImagesError(f"{source} must stand for .tar files, or .parquet files with photos.")
    found = splits(paths)
    if len(found) > 1:
        raise ImagesError(f"{source} holds several splits; give one of them: {few(list(found))}.")
    return list_shards(paths, labelling, source=source, readme=_readme(paths[0]))


def _readme(shard: Path) -> Path | None:
    """The README.md of the snapshot that a file belongs to."""
    folders = itertools.islice(shard.absolute().parents, 3)
    return next((at / "README.md" for at in folders if (at / "README.md").is_file()), None)


# --- patterns ------------------------------------------------------------------------------------


def _matching(spec: str) -> list[Path]:
    """Files that a pattern stands for, in order: with `*`, `?`, `{a,b}` and `{000..012}`.

    Raises:
        ImagesError: they are too many.
    """
    if not any(mark in spec for mark in "*?{") or len(spec) > 4096 or "\0" in spec:
        return []
    found: dict[str, None] = {}
    for place, each in enumerate(_braces(spec)):
        if place == MAX_FILES:
            raise ImagesError(f"{spec} stands for more than {MAX_FILES:,} files.")
        if any(mark in each for mark in "*?"):
            found |= dict.fromkeys(sorted(glob.glob(each)))
        elif os.path.isfile(each):
            found[each] = None
        else:
            raise ImagesError(f"There is no file {each}, one of {spec}; check the pattern.")
    return [Path(each) for each in found if os.path.isfile(each)]


def _braces(spec: str) -> Iterator[str]:
    """The texts that braces stand for."""
    part = re.search(r"\{([^{}]*)\}", spec)
    if part is None:
        yield spec
        return
    ends = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", part[1])
    choices: Iterator[str] = iter(part[1].split(","))
    if ends is not None:
        width = len(ends[1]) if ends[1].startswith("0") else 0
        choices = (str(k).zfill(width) for k in range(int(ends[1]), int(ends[2]) + 1))
    for choice in choices:
        yield from _braces(f"{spec[: part.start()]}{choice}{spec[part.end() :]}")
