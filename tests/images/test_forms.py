"""The forms that photos come in: manifests, snapshots of the hub, tar files and exports."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from auditor.core.class_names import read_class_names
from auditor.errors import ImagesError, ModelError
from auditor.images import image_set, listings
from auditor.images.image_set import ImageSet

FOUR = ("wolf", "dog", "fox", "cat")


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(root: Path, name: str, data: bytes | str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def load(spec: object, names: Sequence[str] = FOUR, **options) -> ImageSet:
    return image_set.load(
        str(spec), class_names=names, class_ids=None, labelled=options.pop("labelled", True),
        **options,
    )  # fmt: skip


def refused(spec: object, names: Sequence[str] = FOUR, **options) -> str:
    with pytest.raises(ImagesError) as error:
        load(spec, names, **options)
    return str(error.value)


# --- manifests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", b"path;label;note\na.png;fox;x, y\nb.png;1;\n"),
        ("m.tsv", "Label\tfile_name\nfox\ta.png\n1\tb.png\n".encode("utf-16")),
        ("m.csv", b"path|label\r\na.png|fox\r\nb.png|1\r\n"),
        ("m.csv", b"\xfe\xff" + "filename,label\na.png,fox\nb.png,dog\n".encode("utf-16-be")),
        ("m.csv", 'path;label\n"a.png";"fox"\nb.png;dog\n'.encode("utf-8-sig")),
        ("m.jsonl", b'{"path": "a.png", "label": "fox"}\n\n{"label": 1, "path": "b.png"}\n'),
        ("m.ndjson", b'\xef\xbb\xbf{"File":"a.png","Class":"FOX"}\n{"File":"b.png","Class":"1"}'),
        ("metadata.jsonl", '{"file_name": "a.png", "label": "fox"}\n'
                           '{"file_name": "b.png", "label": "dog"}\n'.encode("utf-16")),
    ],
)  # fmt: skip
def test_manifests_of_other_tongues(tmp_path: Path, name: str, text: bytes) -> None:
    put(tmp_path, "a.png", photo(0))
    put(tmp_path, "b.png", photo(1))
    images = load(put(tmp_path, name, text))
    assert (images.ids, images.labels) == (("a.png", "b.png"), (2, 1))
    assert images.read(1) == photo(1)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.jsonl", b"[1]\n", "row 1 is no object"),
        ("m.jsonl", b'{"path": "a.png"}\n{"path": \n', "Cannot read the manifest .*[^.][.]$"),
        ("m.jsonl", b"[" * 50_000, "Cannot read the manifest"),
        ("m.jsonl", b'{"path": "a.png", "label": true}', "column label .* text or whole numbers"),
        ("m.jsonl", b'{"path": "a.png", "label": ["x"]}', "column label .* text or whole numbers"),
        ("m.jsonl", b'{"path": "' + b"x" * 2**21 + b'"}', "row 1 is longer than 1,048,576"),
        ("m.jsonl", b'{"path": "a.png", "Path": "b.png"}', "row 1 has a name twice"),
        ("m.jsonl", b'{"label": 0}\n{"path": "a.png", "label": 0}', "no path in row 1"),
        ("m.csv", "path,label\na.png,0\n".encode("utf-16-le"), "Cannot read|needs a column"),
        ("m.csv", b"a;b\n1;2\n", "needs a column of paths, .*; it has the columns 'a;b'"),
        ("m.tar.gz", b"", "is packed; unpack it"),
        ("m.zip", b"", "is packed; unpack it"),
        ("m.npy", b"", r"neither a folder nor a \.csv"),
    ],
)
def test_manifests_that_cannot_be_read(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(ImagesError, match=message):
        load(put(tmp_path, name, data))


def test_files_that_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "neither a folder nor a regular file" in refused(tmp_path / "pipe.csv")
    assert "neither a folder nor a regular file" in refused("/dev/zero")
    for name in ("m.csv", "m.jsonl", "m.parquet", "m.tar"):
        (tmp_path / name).symlink_to("/dev/zero")
        assert "neither a folder nor a regular file" in refused(tmp_path / name)
    os.mkfifo(tmp_path / "names.txt")
    for path in (Path("/dev/zero"), tmp_path / "names.txt"):
        with pytest.raises(
            ModelError, match=r"Cannot read the class names .*[Nn]ot a regular file"
        ):
            read_class_names(path)


def test_tables_may_be_so_long_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, label = (pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int32()), [text])
                    for text in ("a.png", "fox"))  # fmt: skip
    many = pa.table({"path": place, "label": label})
    with parquet.ParquetWriter(tmp_path / "m.parquet", many.schema, compression="zstd") as writer:
        for _ in range(5):
            writer.write_table(many)
    assert "has 5,000,000 rows, more than the 4,000,000" in refused(tmp_path / "m.parquet")
    monkeypatch.setattr(listings, "MAX_ROWS", 3)
    rows = "a.png,0\n" * 4
    assert "has 4 rows, more than the 3" in refused(put(tmp_path, "m.csv", f"path,label\n{rows}"))
    lines = '{"path": "a.png", "label": 0}\n' * 4
    assert "has 4 rows, more than the 3" in refused(put(tmp_path, "m.jsonl", lines))


def test_long_text_of_a_small_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.array([0] * 5000, pa.int32())
    long = pa.DictionaryArray.from_arrays(rows, ["x" * 10**6])
    table = pa.table({"path": long, "label": ["0"] * 5000})
    parquet.write_table(table, tmp_path / "m.parquet", compression="zstd")
    images = load_rows(tmp_path / "m.parquet")
    assert len(set(map(id, images))) == 1  # 5 GB if each row had a text of its own
    monkeypatch.setattr("auditor.images.sources.parquet.MAX_COLUMN", 1000)
    assert "more than the 0 GiB of paths or labels" in refused(tmp_path / "m.parquet")


def load_rows(path: Path) -> list[str]:
    from auditor.images.sources.parquet import read_columns

    return read_columns([path], ["path"])["path"]


def test_metadata_beside_photos_labels_them(tmp_path: Path) -> None:
    put(tmp_path, "img/a.png", photo(0))
    put(tmp_path, "img/b.png", photo(1))
    rows = "file_name,label,text\nimg/a.png,cat,x\nimg/b.png,wolf,y\n"
    put(tmp_path, "metadata.csv", rows)
    images = load(tmp_path)
    assert (images.ids, images.labels) == (("img/a.png", "img/b.png"), (3, 0))
    assert images.remarks == ()
    assert len(load(tmp_path, labelled=False)) == 2
    put(tmp_path, "img/c.png", photo(2))
    (remark,) = load(tmp_path).remarks
    told = "which metadata.csv does not name or label were passed over."
    assert remark.text == f"1 photo of {tmp_path} {told}"
    put(tmp_path, "metadata.csv", "file_name,text\nimg/a.png,x\n")
    assert "no class of the model: 'img'" in refused(tmp_path)


def test_folders_of_splits_are_named(tmp_path: Path) -> None:
    for k, name in enumerate(("train/fox/a.png", "val/fox/b.png")):
        put(tmp_path, name, photo(k))
    assert "holds the splits 'train', 'val'; give the folder of one" in refused(tmp_path)
    assert load(tmp_path / "val").labels == (2,)
    assert load(tmp_path, ["train", "val"]).labels == (0, 1)


# --- snapshots of the hub ------------------------------------------------------------------------

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def snapshot(
    path: Path,
    cells: Sequence[object],
    columns: Mapping[str, Sequence[object]],
    classes: Mapping[str, Sequence[str]] | None = None,
    *,
    group: int = 2,
) -> Path:
    """A Parquet file as `datasets` writes it; `classes` are the ClassLabel features."""
    table = pa.table({"image": pa.array(cells, STRUCT), **{k: list(v) for k, v in columns.items()}})
    if classes is not None:
        labels = {name: {"_type": "ClassLabel", "names": list(c)} for name, c in classes.items()}
        info = {"info": {"features": {"image": {"_type": "Image"}, **labels}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=group)
    return path


def cells(*seeds: int) -> list[object]:
    return [{"bytes": photo(seed), "path": f"{seed}.png"} for seed in seeds]


def test_a_snapshot_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"label": ["cat", "dog", "fox", "wolf"]}
    first = snapshot(
        tmp_path / "data/test-00000-of-00002.parquet", cells(0, 1, 2), {"label": [0, 1, 3]}, names
    )
    snapshot(tmp_path / "data/test-00001-of-00002.parquet", cells(3, 4), {"label": [2, 2]}, names)
    put(tmp_path, "README.md", "---\nlicense: mit\n---\nWords.")
    put(tmp_path, "assets/picture.png", photo(9))
    for spec in (tmp_path, tmp_path / "data", f"{tmp_path}/data/test-*.parquet"):
        images = load(spec, labels="name")
        assert images.ids == ("0", "1", "2", "3", "4")
        assert images.labels == (3, 1, 0, 2, 2)
        assert [images.read(k) for k in range(5)] == [photo(k) for k in range(5)]
        assert images.readings["index"] == (0, 1, 3, 2, 2)
        beside = [remark.text for remark in images.remarks]
        told = "which lie beside its Parquet files were passed over."
        assert beside == [f"1 photo of {spec} {told}"] * (spec == tmp_path)
    assert pickle.loads(pickle.dumps(images)).read(4) == photo(4)
    assert (
        "'cat' is class 3 ('cat') by class name and class 0 ('wolf') by the stored number"
        in refused(tmp_path)
    )
    shard = load(first, labels="name")
    assert shard.labels == (3, 1, 0)
    assert [remark.code for remark in shard.remarks] == ["shards-missing"]
    assert load(tmp_path, labelled=False).labels is None
    snapshot(tmp_path / "data/train-00000-of-00001.parquet", cells(5), {"label": [0]}, names)
    monkeypatch.chdir(tmp_path)  # long paths are cut in the sentence
    told = refused("data")
    assert "several splits; give one of them" in told
    assert "'data/test-*.parquet', 'data/train-*.parquet'" in told
    assert len(load(f"{tmp_path}/data/train-*.parquet", labels="name")) == 1
    assert len(load(f"{tmp_path}/data/test-{{00000..00001}}-of-00002.parquet", labels="name")) == 5


def test_stored_numbers_of_a_snapshot_are_outputs(tmp_path: Path) -> None:
    order = sorted(map(str, range(12)))
    names = [f"kind {k}" for k in range(12)]
    path = snapshot(tmp_path / "t.parquet", cells(0, 1), {"label": [2, 4]}, {"label": order})
    images = load(path, names)
    assert images.labels == (2, 4)
    assert [remark.code for remark in images.remarks] == ["labels-by-stored-number"]
    bare = snapshot(tmp_path / "b.parquet", cells(0, 1, 2), {"label": [2, -1, 3]})
    assert "matches no class of the model: '-1'" in refused(bare)
    known = snapshot(
        tmp_path / "c.parquet", cells(0, 1, 2), {"label": [2, -1, None]}, {"label": FOUR}
    )
    images = load(known)
    assert (images.ids, images.labels) == (("0",), (2,))
    far = snapshot(tmp_path / "d.parquet", cells(0), {"label": [7]}, {"label": FOUR})
    assert "has the label 7, and 4 classes are declared" in refused(far)
    twice = snapshot(tmp_path / "e.parquet", cells(0), {"label": [0]}, {"label": ["a", "a"]})
    assert "declares the class 'a' twice" in refused(twice)


@pytest.mark.parametrize(
    ("heading", "labels"),
    [
        ("names:\n          '0': cat\n          '1': fox", (3, 2)),
        ("names:\n          0: dog\n          1: cat", (1, 3)),
        ("names: [fox, dog]", (2, 1)),
        ("nonsense: &a [*a]", (0, 1)),
    ],
)
def test_classes_that_the_readme_declares(
    tmp_path: Path, heading: str, labels: tuple[int, ...]
) -> None:
    snapshot(tmp_path / "data/test-00000-of-00001.parquet", cells(0, 1), {"label": [0, 1]})
    readme = f"""---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        {heading}
---
"""
    put(tmp_path, "README.md", readme)
    assert load(tmp_path).labels == labels
    assert load(tmp_path / "data").labels == labels


def test_several_columns_of_a_snapshot(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"fine": [2, 1], "coarse": [0, 1], "note": ["x", "y"]}
    path = snapshot(
        tmp_path / "t.parquet", cells(0, 1), columns, {"fine": FOUR, "coarse": ["pet", "beast"]}
    )
    images = load(path)
    assert images.labels == (2, 1)
    assert [remark.code for remark in images.remarks] == ["label-columns-passed-over"]
    assert load(path, ["Pet", "beast"], label_column="coarse").labels == (0, 1)
    assert "needs a column of labels" in refused(
        snapshot(tmp_path / "u.parquet", cells(0), {"text": ["a fox"]})
    )


def test_bad_cells_of_a_snapshot_are_quarantined(tmp_path: Path) -> None:
    put(tmp_path, "inside.png", photo(1))
    put(tmp_path.parent, "outside.png", photo(2))
    paths = ["inside.png", "../outside.png", str(tmp_path.parent / "outside.png"), "/dev/zero"]
    odd: list[object] = [{"bytes": None, "path": path} for path in paths]
    odd += [None, {"bytes": b"", "path": None}, {"bytes": None, "path": None}]
    path = snapshot(tmp_path / "t.parquet", [*cells(0), *odd], {"label": ["fox"] * 8})
    images = load(path)
    assert images.ids == ("0", "1")
    outside = "the file cannot be read (its path leads out of the data set)"
    none = "the file cannot be read (the row holds no photo)"
    assert [why for _, why in images.quarantined] == [
        outside, outside, outside, none, "the file is empty", none,
    ]  # fmt: skip


def test_photos_in_plain_bytes_and_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"jpg": [photo(0), photo(1)], "class": ["fox", "cat"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").labels == (2, 3)
    both = table.append_column("mask", pa.array([b"x", b"y"]))
    parquet.write_table(both, tmp_path / "b.parquet")
    assert "must have one image column, not 2" in refused(tmp_path / "b.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    half = put(tmp_path / "half", "data/test-00000-of-00001.parquet", whole[: len(whole) // 2])
    assert "Cannot read" in refused(half)
    monkeypatch.setattr("auditor.images.sources.hub.MAX_GROUP", 100)
    assert "row groups below 0 GiB" in refused(tmp_path / "a.parquet")


def test_a_photo_of_a_snapshot_that_changes_during_the_run(tmp_path: Path) -> None:
    images = load(snapshot(tmp_path / "t.parquet", cells(0, 1), {"label": ["fox", "cat"]}))
    images.image(0)
    snapshot(tmp_path / "t.parquet", cells(2, 1), {"label": ["fox", "cat"]})
    with pytest.raises(ImagesError, match="The photo 0 was changed while the audit was running"):
        images.image(0)
    assert images.image(1)


def test_shards_of_different_tables_are_refused(tmp_path: Path) -> None:
    snapshot(tmp_path / "test-00000-of-00002.parquet", cells(0), {"label": ["fox"]})
    snapshot(tmp_path / "test-00001-of-00002.parquet", cells(0), {"kind": ["fox"]})
    assert "other columns" in refused(tmp_path)


# --- tar files -----------------------------------------------------------------------------------


def tar(path: Path, files: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_tars(tmp_path: Path) -> None:
    tar(tmp_path / "000.tar", {"a.png": photo(0), "a.cls": "2", "b.cls": "0\n", "b.png": photo(1)})
    tar(tmp_path / "001.tar", {"a.jpg": photo(2), "a.cls": "3", "c.txt": "no photo", "d.jpg": b"x"})
    one = load(tmp_path / "000.tar")
    assert (one.ids, one.labels) == (("a.png", "b.png"), (2, 0))
    assert one.read(1) == photo(1)
    for spec in (tmp_path, f"{tmp_path}/{{000..001}}.tar", f"{tmp_path}/00*.tar"):
        images = load(spec)
        assert images.ids == ("000.tar/a.png", "000.tar/b.png", "001.tar/a.jpg")
        assert images.labels == (2, 0, 3)
        codes = [remark.code for remark in images.remarks]
        assert codes == ["files-skipped", "rows-without-label"]
    assert pickle.loads(pickle.dumps(images)).read(2) == photo(2)
    assert "There is no file" in refused(f"{tmp_path}/{{000..002}}.tar")
    pool = load(tmp_path, labelled=False)
    assert len(pool) == 3
    assert pool.quarantined == (("001.tar/d.jpg", "not an image of a known format"),)


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        ({"x.json": '{"label": "fox", "caption": "a"}', "y.json": '{"label": 1}'}, (2, 1)),
        ({"x.txt": "Fox", "y.txt": " wolf\n"}, (2, 0)),
        ({"x.cls": "3", "x.txt": "a cat, asleep", "y.cls": "0", "y.txt": "a wolf"}, (3, 0)),
        ({"x.cls": "cat", "y.json": '{"cls": "dog"}'}, (3, 1)),
        ({"x.json": '{"class_index": 1, "class_name": "dog"}',
          "y.json": '{"class_index": 3, "class_name": "cat"}'}, (1, 3)),
    ],
)  # fmt: skip
def test_labels_of_tars(tmp_path: Path, files: dict[str, str], labels: tuple[int, ...]) -> None:
    images = load(tar(tmp_path / "t.tar", {"x.png": photo(0), "y.png": photo(1), **files}))
    assert images.labels == labels


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.png": b"1", "x.jpg": b"2", "x.cls": "0"}, "several photos .'png', 'jpg'"),
        ({"x.png": b"1"}, "has no labels: a sample needs a file .cls"),
        (
            {"x.png": b"1", "x.cls": "0", "./x.cls": "0", "x.CLS": "1"},
            "holds the file 'x.CLS' twice",
        ),
        ({"x.png": b"1", "x.json": "{"}, "A file .json of .* cannot be read"),
        ({"x.png": b"1", "x.json": '{"label": [1, 2]}'}, "row 1 holds a list"),
        ({"x.png": b"1", "x.cls": "1" * 2**20 + "1"}, "larger than 1048576 bytes"),
        ({"x.png": b"1", "x.cls": "bear"}, "matches no class of the model: 'bear'"),
        ({"notes.txt": b"1"}, "holds no photos"),
    ],
)
def test_tars_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ImagesError, match=message):
        load(tar(tmp_path / "t.tar", files))


def test_tars_stay_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, link in (
            ("a.png", tarfile.SYMTYPE, "/etc/passwd"), ("b.png", tarfile.LNKTYPE, "x"),
            ("c.png", tarfile.CHRTYPE, ""), ("d.png", tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
        for name, data in (("../../up.png", photo(0)), ("../../up.cls", b"1")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    images = load(path)
    assert (images.ids, images.labels) == (("../../up.png",), (1,))
    assert images.read(0) == photo(0)
    assert not (tmp_path.parent.parent / "up.png").exists()
    whole = path.read_bytes()
    at = whole.index(photo(0))
    assert "Cannot read the tar file" in refused(put(tmp_path, "cut.tar", whole[: at + 20]))
    assert "Cannot read the tar file" in refused(put(tmp_path, "no.tar", b"x" * 2000))
    long = tarfile.TarInfo("x.png")
    long.type, long.size = tarfile.XHDTYPE, 2**32
    with (tmp_path / "long.tar").open("wb") as file:
        file.write(long.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(2**33)
    assert "a header is longer than 1048576 bytes" in refused(tmp_path / "long.tar")


# --- FiftyOne ------------------------------------------------------------------------------------


def export(root: Path, classes: object, labels: object) -> Path:
    for k, name in enumerate(("a", "deep/b", "c")):
        put(root, f"data/{name}.png", photo(k))
    put(root, "labels.json", json.dumps({"classes": classes, "labels": labels}))
    return root


@pytest.mark.parametrize(
    ("classes", "labels", "found"),
    [
        (["fox", "cat"], {"a": 0, "deep/b": 1, "c": 1}, (2, 3, 3)),
        (["fox", "cat"], {"a": "fox", "deep/b": "cat", "c": "cat"}, (2, 3, 3)),
        (None, {"a.png": "wolf", "c.png": "2", "deep/b.png": "dog"}, (0, 2, 1)),
        (["fox", "cat"], {"a": {"label": 0, "confidence": 0.5}, "c": 0, "deep/b": {"label": 1}},
         (2, 2, 3)),
        (list("pqrs"), {"a": 0, "c": 1, "deep/b": 3}, (0, 1, 3)),
    ],
)  # fmt: skip
def test_fiftyone_exports(
    tmp_path: Path, classes: object, labels: object, found: tuple[int, ...]
) -> None:
    images = load(export(tmp_path, classes, labels))
    assert images.ids == ("a.png", "c.png", "deep/b.png")
    assert images.labels == found
    assert load(tmp_path / "labels.json").labels == images.labels
    assert load(tmp_path, labelled=False).labels is None


def test_fiftyone_photos_without_label_and_labels_without_photo(tmp_path: Path) -> None:
    images = load(export(tmp_path, ["fox", "cat"], {"a": 0, "deep/b": None, "gone": 1}))
    assert (images.ids, images.labels) == (("a.png",), (2,))
    assert [remark.code for remark in images.remarks] == ["photos-missing", "rows-without-label"]
    assert images.remarks[0].text.endswith("not found in its folder data: 'gone'.")


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["fox", "cat"], [0, 1], "has no table of labels"),
        (["fox", "fox"], {"a": 0}, "declares the class 'fox' twice"),
        ("fox", {"a": 0}, "must be a list of names"),
        (["fox"], {"a": 4}, "has the label 4, and 1 classes are declared"),
        (["fox"], {"a": [0]}, "holds a list"),
        (["fox"], {"other": 0}, "No photo of .* has a label"),
    ],
)
def test_fiftyone_exports_that_cannot_be_used(
    tmp_path: Path, classes: object, labels: object, message: str
) -> None:
    with pytest.raises(ImagesError, match=message):
        load(export(tmp_path, classes, labels))


def test_other_exports_of_fiftyone_are_named(tmp_path: Path) -> None:
    put(tmp_path, "data/a.png", photo(0))
    put(tmp_path, "metadata.json", "{}")
    put(tmp_path, "samples.json", "{}")
    assert "export it as FiftyOneImageClassificationDataset" in refused(tmp_path)
