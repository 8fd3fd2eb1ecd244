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
            "empty": ("", ""),
            "only a header": ("path,label\n", ""),
            "no column of paths": (f"a,label\n{ONE},0\n", ""),
            "no column of labels": (f"path\n{ONE}\n", ""),
            "an empty path": ("path,label\n,0\n", ""),
            "an unknown label": (f"path,label\n{ONE},zebra\n", ""),
            "a column twice": (f"path,Path,label\n{ONE},{ONE},0\n", ""),
            "a NUL": (f"path,label\n{ONE}\0,0\n", ""),
            "an open quote": ('path,label\n"abc,0\n', ""),
            "a field of 200,000 letters": ("path,label\n" + "a" * 200_000 + ",0\n", ""),
            "a path to a device": ("path,label\n/dev/zero,0\n", ""),
            "a path to a folder": ("path,label\n/etc,0\n", ""),
            "a label of 10,000 digits": (f"path,label\n{ONE},{'1' * 10000}\n", ""),
            "only row numbers as labels": (
                "index,path\n" + "".join(f"{k},photos/{k}/0.png\n" for k in range(3)),
                "",
            ),
            "two columns that contradict": (
                "path,label,class_name\nphotos/0/0.png,0,beta\nphotos/1/0.png,1,alpha\n"
                "photos/1/1.png,1,alpha\n",
                "",
            ),
            "nothing decoded": (b"\xff\xff\xff", ""),
        },
    ),
    *rows(
        "Parquet",
        _table,
        {
            "no rows": (
                pa.table({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
                "",
            ),
            "paths that are numbers": (_text(1.5), ""),
            "paths that are bytes": (_text(b"\xff"), ""),
            "paths that are lists": (_text(["a"]), ""),
            "labels that are dates": (
                pa.table({"path": [ONE], "label": pa.array([10**9], pa.timestamp("s"))}),
                "",
            ),
            "labels that are missing": (
                pa.table({"path": [ONE], "label": pa.array([None], pa.null())}),
                "",
            ),
            "labels that are truths": (pa.table({"path": [ONE], "label": [True]}), ""),
        },
    ),
    *rows(
        "Parquet file",
        _bytes,
        {
            "empty": (b"", ""),
            "only its mark": (b"PAR1PAR1", ""),
            "noise": (b"PAR1" + bytes(range(256)) + b"PAR1", ""),
        },
    ),
    *rows(
        "photos",
        _folder,
        {
            "an empty folder": (_empty, ""),
            "a missing folder": (lambda place: "nowhere", ""),
            "no path": (lambda place: "", ""),
            "a device": (lambda place: "/dev/zero", ""),
            "a FIFO": (_fifo, ""),
            "a link to a device": (_endless, ""),
            "a path of 5,000 letters": (lambda place: "x" * 5000, ""),
            "an address": (lambda place: "https://127.0.0.1/x.csv", ""),
            "a photo beside the class folders": (_loose, ""),
            "a folder of no class": (_made("unknown", ("0", "zebra", "2")), ""),
            "only damaged photos": (_damaged, ""),
        },
    ),
    *rows(
        "pool",
        _pool,
        {
            "one photo": (_made("single", ("0",), 1), ""),
            "one photo again and again": (_same, ""),
            "an empty folder": (_empty, ""),
            "a missing folder": (lambda place: "nowhere", ""),
        },
    ),
)
