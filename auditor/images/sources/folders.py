"""Photos in folders: a folder for each class, or any folder searched through."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditor.core.phrases import counted, few
from auditor.errors import ImagesError
from auditor.images.label_columns import Labelling
from auditor.images.label_meaning import Column
from auditor.images.listings import SUFFIXES, Listing, PhotoFiles, list_rows, told_apart, utf8
from auditor.record.schema import Remark

__all__ = ["Tree", "list_folder", "search"]

NOT_THE_USERS = frozenset(
    {
        *("@eadir", "__macosx", "#recycle", "$recycle.bin"),
        *("lost+found", "system volume information"),
    }
)
"""Folders that disks, archives and photo stations make, in lower case: thumbnails and bins."""

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})


@dataclass
class Tree:
    """What a folder holds.

    Attributes:
        photos: relative and full path of each file that ends like a photo.
        others: paths of the other visible files.
        folders: names of the visible folders right below.
        hidden: relative paths of hidden files and folders, which are not entered.
        foreign: relative paths of folders that the user did not make, which are not entered.
    """

    photos: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def search(root: Path) -> Tree:
    """Find all files of a folder and the folders below.

    Links are followed, and a link back to a folder that was entered before is not: a loop ends.

    Raises:
        ImagesError: a folder cannot be listed.
    """
    tree = Tree()
    # a class folder is entered once for each class that links to it
    pending: list[tuple[str, str, set[tuple[int, int]]]] = [(str(root), "", set())]
    while pending:
        folder, prefix, seen = pending.pop()
        for entry in _entries(folder, seen):
            relative = prefix + entry.name
            # a link may lead to itself
            is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
            if entry.name.startswith("."):
                tree.hidden.append(relative)
            elif is_folder and entry.name.lower() in NOT_THE_USERS:
                tree.foreign.append(relative)
            elif is_folder:
                pending.append((entry.path, f"{relative}/", seen if prefix else set(seen)))
                if not prefix:
                    tree.folders.append(entry.name)
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                tree.photos.append((relative, entry.path))
            else:
                tree.others.append(entry.path)
    return tree


def _entries(folder: str, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder that was not entered before."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise ImagesError(f"Cannot list the folder {folder}: {error.strerror}.") from None
    yield from entries


def list_folder(root: Path, tree: Tree, labelling: Labelling | None) -> Listing:
    """The photos of a folder; with labels, each belongs to the class of its top folder.

    All class folders are read in one way, those without photos counting among the folders whose
    order a training may have numbered.

    Raises:
        ImagesError: photos lie outside of class folders, or those match no class of the model.
    """
    found = sorted((utf8(relative), path) for relative, path in tree.photos)
    ids = told_apart(name for name, _ in found)
    tops = [name.split("/")[0] if "/" in name else None for name, _ in found]
    folders = tuple(sorted(map(utf8, tree.folders)))
    if labelling is not None:
        _see_class_folders(root, ids, tops, labelling)
    return list_rows(
        ids,
        PhotoFiles(tuple(path for _, path in found)),
        [Column("", tuple(tops), declared=folders)],
        labelling,
        source=str(root),
        remarks=_skipped(root, tree, [] if labelling is None else sorted(set(folders) - set(tops))),
    )


def _see_class_folders(
    root: Path, ids: Sequence[str], tops: Sequence[str | None], labelling: Labelling
) -> None:
    if labelling.column is not None:
        raise ImagesError(
            f"{root} is a folder of photos without columns; leave --label-column out."
        )
    loose = [name for name, top in zip(ids, tops, strict=True) if top is None]
    if loose:
        raise ImagesError(
            f"{root} holds {counted(len(loose), 'photo')} outside of the class folders: "
            f"{few(loose)}; put each into the folder of its class."
        )
    classes = sorted({top for top in tops if top is not None})
    strange = [top for top in classes if not labelling.matcher.candidates(top)]
    if strange == classes and len(classes) > 1 and SPLITS.issuperset(map(str.lower, classes)):
        raise ImagesError(
            f"{root} holds the splits {few(classes)}; give the folder of one of them."
        )


def _skipped(root: Path, tree: Tree, empty: Sequence[str]) -> tuple[Remark, ...]:
    """What was passed over, by kind."""
    remarks: list[Remark] = []
    parts: list[str] = []
    if tree.others:
        suffixes = Counter(Path(path).suffix.lower() or "no suffix" for path in tree.others)
        common = sorted(suffixes.items(), key=lambda each: (-each[1], each[0]))
        kinds = ", ".join(f"{utf8(suffix)[:12]} {n}" for suffix, n in common[:5])
        parts.append(f"{counted(len(tree.others), 'file')} not named like a photo ({kinds})")
    for paths, what in (
        (tree.hidden, "hidden files or folders"),
        (tree.foreign, "folders of thumbnails or of the system"),
    ):
        if paths:
            names = sorted({utf8(path.rsplit("/", 1)[-1]) for path in paths})
            parts.append(f"{len(paths)} {what} ({few(names, 5)})")
    if parts:
        said = f"In {root} these were passed over: {'; '.join(parts)}."
        remarks.append(Remark(code="files-skipped", text=said))
    if empty:
        it = "it" if len(empty) == 1 else "them"
        said = f"{counted(len(empty), 'folder')} of {root} with no photo in {it}: {few(empty)}."
        remarks.append(Remark(code="class-folders-empty", text=said))
    return tuple(remarks)
