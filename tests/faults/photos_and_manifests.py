"""Folders, manifests and data sets that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
from table import Called, Fault, Place, rows

ONE = "photos/0/0.png"


def _csv(place: Place, text: str | bytes) -> Called:
    place.write("m.csv", text)
    return place.audit("--images", "m.csv")


def _table(place: Place, table: pa.Table) -> Called:
    pq.write_table(table, place.folder / "m.parquet")
    return place.audit("--images", "m.parquet")


def _bytes(place: Place, data: bytes) -> Called:
    place.write("m.parquet", data)
    return place.audit("--images", "m.parquet")


def _folder(place: Place, prepare: Callable[[Place], str]) -> Called:
    return place.audit("--images", prepare(place))


def _pool(place: Place, prepare: Callable[[Place], str]) -> Called:
    return place.audit("--pool", prepare(place))


def _made(name: str, labels: tuple[str, ...], n: int = 4) -> Callable[[Place], str]:
    def prepare(place: Place) -> str:
        place.photos(name, labels=labels, n=n)
        return name

    return prepare


def _fifo(place: Place) -> str:
    os.mkfifo(place.folder / "fifo.csv")
    return "fifo.csv"


def _endless(place: Place) -> str:
    os.symlink("/dev/zero", place.folder / "endless.csv")
    return "endless.csv"


def _empty(place: Place) -> str:
    (place.folder / "empty").mkdir()
    return "empty"


def _loose(place: Place) -> str:
    place.photos("loose")
    (place.folder / ONE).rename(place.folder / "loose" / "x.png")
    return "loose"


def _damaged(place: Place) -> str:
    for label in "012":
        place.write(f"damaged/{label}/x.png", b"\x89PNG\r\n\x1a\n")
    return "damaged"


def _same(place: Place) -> str:
    data = (place.folder / ONE).read_bytes()
    for k in range(6):
        place.write(f"same/{k}.png", data)
    return "same"


def _text(value: object) -> pa.Table:
    return pa.table({"path": [value], "label": ["0"]})


PHOTOS_AND_MANIFESTS: tuple[Fault, ...] = (
    *rows(
        "manifest",
        _csv,
        {
            "empty": (
                "",
                "m.csv needs a column of paths, named path, image, file, file_name, filename, filepath or",
            ),
            "only a header": ("path,label\n", "m.csv holds no photos; check the path"),
            "no column of paths": (
                f"a,label\n{ONE},0\n",
                "m.csv needs a column of paths, named path, image, file, file_name, filename, filepath or",
            ),
            "no column of labels": (
                f"path\n{ONE}\n",
                "m.csv needs a column of labels, named class_index, index, wnid, class_id, label, labels",
            ),
            "an empty path": ("path,label\n,0\n", "m.csv has no path in row 1"),
            "an unknown label": (
                f"path,label\n{ONE},zebra\n",
                "m.csv has 1 label that matches no class of the model: 'zebra'; name them by class index",
            ),
            "a column twice": (
                f"path,Path,label\n{ONE},{ONE},0\n",
                "m.csv has 2 columns named 'path' in upper or lower case; keep one of them",
            ),
            "a NUL": (
                f"path,label\n{ONE}\0,0\n",
                "No photo of m.csv can be read; the first, photos/0/0.png : the file cannot be read",
            ),
            "an open quote": (
                'path,label\n"abc,0\n',
                "Cannot read the manifest m.csv: unexpected end of data",
            ),
            "a field of 200,000 letters": (
                "path,label\n" + "a" * 200_000 + ",0\n",
                "Cannot read the manifest m.csv: field larger than field limit (131072)",
            ),
            "a path to a device": (
                "path,label\n/dev/zero,0\n",
                "No photo of m.csv can be read; the first, /dev/zero: the file cannot be read (not a",
            ),
            "a path to a folder": (
                "path,label\n/etc,0\n",
                "No photo of m.csv can be read; the first, /etc: the file cannot be read (not a regular",
            ),
            "a label of 10,000 digits": (
                f"path,label\n{ONE},{'1' * 10000}\n",
                "'; name them by class index, folder id or class name",
            ),
            "only row numbers as labels": (
                "index,path\n" + "".join(f"{k},photos/{k}/0.png\n" for k in range(3)),
                "The column index of m.csv numbers its rows and says no classes; name the column of labels",
            ),
            "two columns that contradict": (
                "path,label,class_name\nphotos/0/0.png,0,beta\nphotos/1/0.png,1,alpha\n"
                "photos/1/1.png,1,alpha\n",
                "Two columns of m.csv name different classes, first in row 1: label says '0' and",
            ),
            "nothing decoded": (
                b"\xff\xff\xff",
                "Cannot read the manifest m.csv: 'utf-8' codec can't decode byte 0xff in position 0",
            ),
        },
    ),
    *rows(
        "Parquet",
        _table,
        {
            "no rows": (
                pa.table({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
                "m.parquet holds no photos; check the path",
            ),
            "paths that are numbers": (
                _text(1.5),
                "The column path of m.parquet must hold text or whole numbers",
            ),
            "paths that are bytes": (
                _text(b"\xff"),
                "No photo of m.parquet can be read; the first, 0: not an image of a known format",
            ),
            "paths that are lists": (
                _text(["a"]),
                "The column path of m.parquet must hold text or whole numbers",
            ),
            "labels that are dates": (
                pa.table({"path": [ONE], "label": pa.array([10**9], pa.timestamp("s"))}),
                "The column label of m.parquet must hold text or whole numbers",
            ),
            "labels that are missing": (
                pa.table({"path": [ONE], "label": pa.array([None], pa.null())}),
                "No photo of m.parquet has a label; check its column of labels",
            ),
            "labels that are truths": (
                pa.table({"path": [ONE], "label": [True]}),
                "The column label of m.parquet must hold text or whole numbers",
            ),
        },
    ),
    *rows(
        "Parquet file",
        _bytes,
        {
            "empty": (b"", "Cannot read the manifest m.parquet: Parquet file size is 0 bytes"),
            "only its mark": (
                b"PAR1PAR1",
                "Cannot read the manifest m.parquet: Parquet file size is 8 bytes, smaller than the size",
            ),
            "noise": (
                b"PAR1" + bytes(range(256)) + b"PAR1",
                "Cannot read the manifest m.parquet: Parquet file size is 264 bytes, smaller than the size",
            ),
        },
    ),
    *rows(
        "photos",
        _folder,
        {
            "an empty folder": (_empty, "empty holds no photos; check the path"),
            "a missing folder": (
                lambda place: "nowhere",
                "There is no folder or manifest nowhere; check the path",
            ),
            "no path": (lambda place: "", "There is no folder or manifest ; check the path"),
            "a device": (
                lambda place: "/dev/zero",
                "/dev/zero is neither a folder nor a regular file; give one of these",
            ),
            "a FIFO": (_fifo, "fifo.csv is neither a folder nor a regular file; give one of these"),
            "a link to a device": (
                _endless,
                "endless.csv is neither a folder nor a regular file; give one of these",
            ),
            "a path of 5,000 letters": (
                lambda place: "x" * 5000,
                "There is no folder or manifest xxx",
            ),
            "an address": (
                lambda place: "https://127.0.0.1/x.csv",
                "There is no folder or manifest https://127.0.0.1/x.csv; check the path",
            ),
            "a photo beside the class folders": (
                _loose,
                "loose holds 1 photo outside of the class folders: 'x.png'; put each into the folder of",
            ),
            "a folder of no class": (
                _made("unknown", ("0", "zebra", "2")),
                "unknown has 1 label that matches no class of the model: 'zebra'; name them by class",
            ),
            "only damaged photos": (
                _damaged,
                "No photo of damaged can be read; the first, 0/x.png: not an image of a known format",
            ),
        },
    ),
    *rows(
        "pool",
        _pool,
        {
            "one photo": (
                _made("single", ("0",), 1),
                "The pool single holds fewer than 2 different photos that can be read, and concepts are",
            ),
            "one photo again and again": (
                _same,
                "The pool same holds fewer than 2 different photos that can be read, and concepts are",
            ),
            "an empty folder": (_empty, "empty holds no photos; check the path"),
            "a missing folder": (
                lambda place: "nowhere",
                "There is no folder or manifest nowhere; check the path",
            ),
        },
    ),
)
