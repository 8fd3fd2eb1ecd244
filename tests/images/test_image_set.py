"""Sets of photos: how sources are read, classes matched and faulty files set aside."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import threading
import time
import types
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from auditor.errors import ImagesError
from auditor.images import image_set
from auditor.images.decoding import Decoding
from auditor.images.image_set import ImageSet

NAMES = ("tench", "Great White Shark", "crane", "crane")
IDS = ("n01440764", "n01484850", "n02012849", "n03126707")


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fit(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def put(root: Path, name: str, data: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def load(
    path: Path,
    *,
    labelled: bool = True,
    names: Sequence[str] = NAMES,
    ids: Sequence[str] | None = IDS,
) -> ImageSet:
    return image_set.load(str(path), class_names=names, class_ids=ids, labelled=labelled)


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("0", 0),
        ("003", 3),
        ("n02012849", 2),
        ("TENCH", 0),
        ("great_white_shark", 1),
        ("Great white  shark", 1),
    ],
)
def test_class_folders_match_by_index_id_or_name(tmp_path: Path, folder: str, label: int) -> None:
    put(tmp_path, f"{folder}/a.png", photo(0))
    images = load(tmp_path)
    assert images.labels == (label,)
    assert images.ids == (f"{folder}/a.png",)


def test_order_nesting_digests_and_reading(tmp_path: Path) -> None:
    for i, name in enumerate(["1/b.png", "0/z/deep/c.PNG", "1/a.jpeg", "0/a.png"]):
        put(tmp_path, name, photo(i))
    images = load(tmp_path)
    assert images.ids == ("0/a.png", "0/z/deep/c.PNG", "1/a.jpeg", "1/b.png")
    assert images.labels == (0, 0, 1, 1)
    assert images.digests[3] == hashlib.sha256(photo(0)).hexdigest()
    assert images.read(3) == photo(0)
    assert images.image(3).size == (16, 12)


def test_unknown_folders_are_listed_ten_at_most(tmp_path: Path) -> None:
    for i in range(13):
        put(tmp_path, f"x{i:02}/a.png", photo(0))
    put(tmp_path, "0/a.png", photo(0))
    with pytest.raises(ImagesError, match="13 labels that match no class") as error:
        load(tmp_path)
    assert "'x00'" in str(error.value)
    assert "'x09' and 3 more" in str(error.value)
    assert "'x10'" not in str(error.value)


def test_an_index_beyond_the_classes_is_unknown(tmp_path: Path) -> None:
    put(tmp_path, "4/a.png", photo(0))
    with pytest.raises(ImagesError, match="1 label that matches no class of the model: '4'"):
        load(tmp_path)


def test_a_name_of_two_classes_must_be_given_by_index_or_id(tmp_path: Path) -> None:
    put(tmp_path, "crane/a.png", photo(0))
    with pytest.raises(ImagesError, match=r"several classes of the model: 'crane'; .* folder id"):
        load(tmp_path)


def test_a_digit_that_is_an_index_and_another_name_is_unclear(tmp_path: Path) -> None:
    put(tmp_path, "1/a.png", photo(0))
    with pytest.raises(ImagesError, match=r"'1' is class 0 .* by class name and class 1"):
        load(tmp_path, names=("1", "0"), ids=None)
    assert load(tmp_path, names=("0", "1"), ids=None).labels == (1,)
    with pytest.raises(ImagesError, match=r"by folder id and .* say --labels id or --labels index"):
        load(tmp_path, names=("a", "b"), ids=("1", "2"))


def test_loose_photos_are_an_error_only_where_labels_are_needed(tmp_path: Path) -> None:
    put(tmp_path, "a.png", photo(0))
    put(tmp_path, "0/b.png", photo(1))
    with pytest.raises(ImagesError, match=r"1 photo outside of the class folders: 'a\.png'"):
        load(tmp_path)
    pool = load(tmp_path, labelled=False)
    assert pool.ids == ("0/b.png", "a.png")
    assert pool.labels is None


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    put(tmp_path, "0/a.png", photo(0))
    for name in ("0/notes.txt", "0/b.TXT", "1/c.heif.part", "readme", "0/Thumbs.db"):
        put(tmp_path, name, b"x")
    put(tmp_path, "0/.b.png", photo(0))
    put(tmp_path, ".thumbs/c.png", photo(0))
    put(tmp_path, "0/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", photo(0))
    put(tmp_path, "__MACOSX/0/a.png", photo(0))
    put(tmp_path, "2/deep/.x.png", photo(0))
    images = load(tmp_path)
    assert images.ids == ("0/a.png",)
    assert [remark.code for remark in images.remarks] == ["files-skipped", "class-folders-empty"]
    assert images.remarks[0].text == (
        f"In {tmp_path} these were passed over: 5 files not named like a photo (.txt 2, .db 1, "
        ".part 1, no suffix 1); 3 hidden files or folders ('.b.png', '.thumbs', '.x.png'); "
        "2 folders of thumbnails or of the system ('@eaDir', '__MACOSX')."
    )
    assert images.remarks[1].text == f"2 folders of {tmp_path} with no photo in them: '1', '2'."
    pool = load(tmp_path, labelled=False)
    assert pool.remarks == images.remarks[:1]


def test_symbolic_links_may_loop(tmp_path: Path) -> None:
    put(tmp_path, "data/0/a.png", photo(0))
    put(tmp_path, "elsewhere/c.png", photo(1))
    (tmp_path / "data/0/up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/0/self").symlink_to(tmp_path / "data/0", target_is_directory=True)
    (tmp_path / "data/1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    images = load(tmp_path / "data")
    assert images.ids == ("0/a.png", "1/c.png")


def test_bad_files_are_quarantined_with_a_reason(tmp_path: Path) -> None:
    put(tmp_path, "0/good.png", photo(0))
    put(tmp_path, "0/cut.png", photo(1)[:200])
    put(tmp_path, "0/empty.jpg", b"")
    put(tmp_path, "0/text.jpg", b"hello, this is text")
    (tmp_path / "0/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "0/pipe.jpg")
    images = load(tmp_path)
    assert images.ids == ("0/good.png",)
    reasons = dict(images.quarantined)
    assert list(reasons) == sorted(reasons)
    assert reasons["0/empty.jpg"] == "the file is empty"
    assert reasons["0/text.jpg"] == "not an image of a known format"
    assert reasons["0/gone.jpg"] == "the file is missing"
    assert "damaged or cut off" in reasons["0/cut.png"]
    assert "not a regular file" in reasons["0/pipe.jpg"]


def test_a_link_to_itself_is_quarantined(tmp_path: Path) -> None:
    put(tmp_path, "0/a.png", photo(0))
    (tmp_path / "0" / "b.png").symlink_to("b.png")
    images = load(tmp_path)
    assert images.ids == ("0/a.png",)
    ((name, reason),) = images.quarantined
    assert name == "0/b.png"
    assert "cannot be read" in reason


def test_folders_may_be_nested_deeply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png", photo(0))
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    Path("b.png").write_bytes(photo(1))
    try:
        assert len(load(tmp_path, labelled=False)) == 2
    finally:
        os.remove("b.png")
        for _ in range(1100):  # deeper than what cleans up after tests can go
            os.chdir("..")
            os.rmdir("d")


@pytest.mark.parametrize("spec", ["x" * 300, "a\0b"])
def test_paths_that_no_disk_can_hold(spec: str) -> None:
    with pytest.raises(ImagesError, match="There is no folder or manifest"):
        image_set.load(spec, class_names=NAMES, class_ids=IDS, labelled=True)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="holds no photos"):
        load(tmp_path)
    put(tmp_path, "0/a.jpg", b"no")
    with pytest.raises(ImagesError, match=r"No photo of .* can be read; the first, 0/a\.jpg"):
        load(tmp_path)
    with pytest.raises(ImagesError, match="There is no folder or manifest"):
        load(tmp_path / "missing")


def test_file_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "0")
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xff.png")).write_bytes(photo(0))
    images = load(tmp_path)
    assert images.ids == ("0/\\udcff.png",)
    assert images.read(0) == photo(0)
    put(tmp_path, "0/\\udcff.png", photo(1))  # a name that looks the same when it is written
    assert load(tmp_path).ids == ("0/\\udcff.png", "0/\\udcff.png#2")


def test_progress_is_told(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path, f"{i}.png", photo(i))
    seen: list[tuple[int, int]] = []
    image_set.load(
        str(tmp_path),
        class_names=(),
        class_ids=None,
        labelled=False,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i + 1, 5) for i in range(5)]


# --- manifests -----------------------------------------------------------------------------------


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", ["tench", "1"]),
        ("class_index", ["0", "1"]),
        ("wnid", ["n01440764", "n01484850"]),
        ("Class", ["Tench", "great_white_shark"]),
    ],
)
def test_csv_manifest(tmp_path: Path, column: str, values: list[str]) -> None:
    put(tmp_path, "p/b.png", photo(1))
    elsewhere = put(tmp_path, "q/a.png", photo(0))
    rows: list[list[object]] = [
        ["Path", column, "note"],
        [elsewhere, values[0], "x"],
        ["p/b.png", values[1], "y"],
    ]
    images = load(write_csv(tmp_path / "m.csv", rows))
    by_id = dict(zip(images.ids, images.labels or (), strict=True))
    assert by_id == {str(elsewhere): 0, "p/b.png": 1}


def test_parquet_manifest(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    put(tmp_path, "b.png", photo(1))
    put(tmp_path, "a.png", photo(0))
    table = pyarrow.table({"file": ["b.png", "a.png"], "label": [3, 0], "x": [1.5, 2.5]})
    parquet.write_table(table, tmp_path / "m.parquet")
    images = load(tmp_path / "m.parquet")
    assert images.ids == ("a.png", "b.png")
    assert images.labels == (0, 3)
    assert images.read(1) == photo(1)


def test_manifest_with_missing_files_and_repeated_rows(tmp_path: Path) -> None:
    put(tmp_path, "a.png", photo(0))
    put(tmp_path, "b.png", photo(1))
    rows = [["a.png", "0"], ["none.png", "1"], ["a.png", "0"], ["b.png", "1"]]
    images = load(write_csv(tmp_path / "m.csv", [["image", "label"], *rows]))
    assert images.ids == ("a.png", "b.png")
    assert "a.png#3 of a.png" in images.remarks[0].text
    assert images.labels == (0, 1)
    assert images.quarantined == (("none.png", "the file is missing"),)


def test_paths_of_a_manifest_that_no_disk_can_hold(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    put(tmp_path, "a.png", photo(0))
    paths = ["a.png", "b\0.png", "c" * 300 + ".png"]
    parquet.write_table(table({"path": paths, "label": [0, 0, 0]}), tmp_path / "m.parquet")
    images = load(tmp_path / "m.parquet")
    assert images.ids == ("a.png",)
    assert [reason for _, reason in images.quarantined] == [
        "the file cannot be read (embedded null byte)",
        "the file cannot be read (File name too long)",
    ]


@pytest.mark.parametrize("names", [("path", "label", "Label"), ("path", "label", "label")])
def test_a_column_that_stands_there_twice_is_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    import pyarrow
    from pyarrow import parquet

    put(tmp_path, "a.png", photo(0))
    rows = [names, ("a.png", "0", "1")]
    parquet.write_table(
        pyarrow.table([[value] for value in rows[1]], names=names), tmp_path / "m.parquet"
    )
    for path in (write_csv(tmp_path / "m.csv", rows), tmp_path / "m.parquet"):
        with pytest.raises(ImagesError, match=r"2 columns named 'label'|Multiple .*label"):
            load(path)


def test_other_columns_may_stand_there_twice(tmp_path: Path) -> None:
    put(tmp_path, "a.png", photo(0))
    rows = [["note", "", "note", "", "path", "label"], ["x", "", "y", "", "a.png", "2"], []]
    assert load(write_csv(tmp_path / "m.csv", rows)).labels == (2,)


def test_wordnet_ids_are_passed_over_where_the_model_has_none(tmp_path: Path) -> None:
    put(tmp_path, "a.png", photo(0))
    rows = [["path", "wnid", "class_name"], ["a.png", "n01440764", "tench"]]
    assert load(write_csv(tmp_path / "m.csv", rows), ids=None).labels == (0,)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["name", "label"], ["a.png", "0"]], "needs a column of paths, named path, image, file"),
        ([["path", "colour"], ["a.png", "0"]], "needs a column of labels, named class_index"),
        ([["path", "label"], ["a.png", "dog"]], "1 label that matches no class .*'dog'"),
        ([["path", "label"], ["a.png", "1" * 5000]], "1 label that matches no class"),
        ([["path", "label"], ["a.png", ""]], "No photo of .* has a label"),
        ([["path", "wnid"], ["a.png", "tench"]], "no class of the model: 'tench'"),
        ([["path", "class_index"], ["a.png", "n01440764"]], "no class of the model: 'n01440764'"),
        ([["path", "label"], ["", "0"]], "no path in row 1"),
        ([["path", "label"]], "holds no photos"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, rows: list[list[str]], message: str) -> None:
    put(tmp_path, "a.png", photo(0))
    with pytest.raises(ImagesError, match=message):
        load(write_csv(tmp_path / "m.csv", rows))


def test_other_files_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"neither a folder nor a \.csv"):
        load(put(tmp_path, "m.txt", b"a"))
    with pytest.raises(ImagesError, match="Cannot read the manifest"):
        load(put(tmp_path, "m.csv", b"path,label\n\xff\xfe,0\n"))
    with pytest.raises(ImagesError, match="Cannot read the manifest"):
        load(put(tmp_path, "m.parquet", b"no parquet"))


def test_text_of_a_manifest_that_is_no_utf8(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.Array.from_buffers(
        pyarrow.string(), 1,
        [None, pyarrow.py_buffer(np.array([0, 1], np.int32)), pyarrow.py_buffer(b"\xff")],
    )  # fmt: skip
    parquet.write_table(pyarrow.table({"path": text, "label": [0]}), tmp_path / "m.parquet")
    with pytest.raises(ImagesError, match=r"The column path of .*m\.parquet is no UTF-8"):
        load(tmp_path / "m.parquet")


# --- Hugging Face datasets -----------------------------------------------------------------------


def test_hugging_face_dataset(tmp_path: Path) -> None:
    hf = pytest.importorskip("datasets")
    features = hf.Features(
        {"picture": hf.Image(), "label": hf.ClassLabel(names=["Great white shark", "tench"])}
    )
    cells = [{"bytes": photo(i), "path": None} for i in range(12)]
    cells[5] = {"bytes": b"broken", "path": None}
    table = hf.Dataset.from_dict(
        {"picture": cells, "label": [i % 2 for i in range(12)]}, features=features
    )
    table.save_to_disk(str(tmp_path / "d"))
    images = load(tmp_path / "d")
    assert images.ids == tuple(f"{i:02}" for i in range(12) if i != 5)
    assert images.labels == tuple(1 - i % 2 for i in range(12) if i != 5)
    assert images.read(5) == photo(6)
    assert images.quarantined == (("05", "not an image of a known format"),)
    assert load(tmp_path / "d", labelled=False).labels is None
    hf.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(ImagesError, match="holds the splits 'train'; give the folder of one"):
        load(tmp_path / "splits")
    assert load(tmp_path / "splits/train").labels == images.labels


@pytest.mark.parametrize("form", ["numpy", "torch", "label"])
def test_labels_of_a_hugging_face_dataset_in_another_format(tmp_path: Path, form: str) -> None:
    hf = pytest.importorskip("datasets")
    order = ["crane", "x", "tench"]  # of which two are names of the model
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=order)})
    cells = [{"bytes": photo(i), "path": None} for i in range(3)]
    table = hf.Dataset.from_dict({"image": cells, "label": [2, 0, -1]}, features=features)
    table.set_format(**({"columns": ["label"]} if form == "label" else {"type": form}))
    table.save_to_disk(str(tmp_path))
    images = load(tmp_path, names=("other", "tench", "shark", "crane"), ids=None)
    assert (images.ids, images.labels) == (("0", "1"), (1, 3))
    assert [remark.code for remark in images.remarks] == ["rows-without-label"]


def test_stored_numbers_of_a_hugging_face_dataset_are_outputs(tmp_path: Path) -> None:
    hf = pytest.importorskip("datasets")
    order = sorted(map(str, range(12)))  # as imagefolder numbers the folders 0 to 11
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=order)})
    cells = [{"bytes": photo(i), "path": None} for i in range(3)]
    table = hf.Dataset.from_dict({"image": cells, "label": [2, 3, 4]}, features=features)
    table.save_to_disk(str(tmp_path))
    letters = [f"kind {k}" for k in "abcdefghijkl"]
    images = load(tmp_path, names=letters, ids=None)
    assert images.labels == (2, 3, 4)
    with pytest.raises(ImagesError, match=r"'10' is class 3 .* by class name and class 2"):
        load(tmp_path, names=[str(k) for k in (0, 1, 11, 10, *range(2, 10))], ids=None)
    shutil.rmtree(tmp_path)
    other = hf.Dataset.from_dict({"image": cells, "label": [5, 6, 7]}, features=features)
    other.save_to_disk(str(tmp_path))
    assert load(tmp_path, names=letters, ids=None).labels == (5, 6, 7)


def test_a_damaged_hugging_face_dataset(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    put(tmp_path, "state.json", b"[]")
    put(tmp_path, "dataset_info.json", b"[]")
    with pytest.raises(ImagesError, match="Cannot open the dataset"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (None, r"install auditor\[datasets\]"),
        (types.ModuleType("datasets"), "has its name; rename"),
    ],
)
def test_hugging_face_dataset_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, told: str
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", module)
    put(tmp_path, "state.json", json.dumps({}).encode())
    put(tmp_path, "dataset_info.json", json.dumps({}).encode())
    with pytest.raises(ImagesError, match=told):
        load(tmp_path)


# --- the set -------------------------------------------------------------------------------------


def in_memory(n: int, delays: Sequence[float] | None = None) -> ImageSet:
    data = [photo(i) for i in range(n)]

    def read(i: int) -> bytes:
        if delays is not None:
            time.sleep(delays[i])
        return data[i]

    return ImageSet(
        ids=tuple(f"{i:03}" for i in range(n)),
        labels=tuple(i % 3 for i in range(n)),
        digests=tuple(hashlib.sha256(part).hexdigest() for part in data),
        quarantined=(),
        read=read,
    )


@pytest.mark.parametrize("size", [1, 4, 5, 11, 100])
def test_batches_keep_the_order(size: int) -> None:
    delays = np.random.default_rng(0).random(11) * 0.01
    images = in_memory(11, delays.tolist())
    batches = list(images.batches(fit, size=size))
    assert [len(batch) for batch in batches] == [size] * (11 // size) + [11 % size] * (
        11 % size > 0
    )
    expected = torch.stack([fit(images.image(i)) for i in range(11)])
    assert torch.equal(torch.cat(batches), expected)


def test_batches_hold_no_more_than_two_ahead() -> None:
    images = in_memory(40)
    fitted = 0
    lock = threading.Lock()

    def counted(image: Image.Image) -> Tensor:
        nonlocal fitted
        with lock:
            fitted += 1
        return fit(image)

    for taken, _ in enumerate(images.batches(counted, size=4), 1):
        time.sleep(0.02)
        assert fitted <= 4 * (taken + 2)
    assert fitted == 40


def test_batches_left_early_stop_their_threads() -> None:
    before = threading.active_count()
    batches = in_memory(40).batches(fit, size=4)
    assert isinstance(batches, Generator)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_subset_takes_rows_in_the_order_given() -> None:
    images = in_memory(6)
    part = images.subset([4, 1]).subset(np.array([1, 0]))  # type: ignore[arg-type]
    assert part.ids == ("001", "004")
    assert part.labels == (1, 1)
    assert part.read(0) == photo(1)
    assert part.digest != images.digest
    assert images.subset(range(6)).digest == images.digest


def test_digest_covers_ids_labels_and_content() -> None:
    images = in_memory(3)

    def other(**changes: object) -> str:
        fields = {
            name: getattr(images, name)
            for name in ("ids", "labels", "digests", "quarantined", "read")
        }
        return ImageSet(**{**fields, **changes}).digest

    assert other() == images.digest
    assert other(quarantined=(("x", "y"),)) == images.digest
    assert other(labels=None) != images.digest
    assert other(labels=(0, 1, 0)) != images.digest
    assert other(ids=("a", "b", "c")) != images.digest
    assert other(digests=("a", "b", "c")) != images.digest
    # activations and rows of the probe are kept by it
    assert other(decoding=Decoding()) == images.digest
    for decoding in (Decoding("white"), Decoding(bit_depth=12), Decoding(orientation="stored")):
        assert other(decoding=decoding) != images.digest


def test_photos_are_decoded_as_the_model_asks_and_what_they_hold_is_said(tmp_path: Path) -> None:
    for i in range(3):
        cutout = Image.new("RGBA", (8, 8), (200, 10 * i, 0, 0))
        cutout.putpixel((7, 7), (0, 0, 80 * i, 255))
        cutout.save(tmp_path / f"{i}.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "plain.png")
    source = functools.partial(
        image_set.load, str(tmp_path), class_names=(), class_ids=None, labelled=False
    )
    stored, white = source(), source(decoding=Decoding("white"))
    assert stored.image(1).getpixel((0, 0)) == (200, 10, 0)
    assert white.image(1).getpixel((0, 0)) == (255, 255, 255)
    assert white.subset([1]).image(0).getpixel((0, 0)) == (255, 255, 255)
    assert next(white.batches(fit, size=4))[0, :, 0].min() == 1
    assert stored.digest != white.digest
    (remark,) = stored.remarks
    assert remark.code == "transparent-photos"
    assert remark.text.startswith("3 of the 4 photos of ")
    assert "(0.png, 1.png, 2.png) have transparent pixels" in remark.text
    assert "laid on white" in white.remarks[0].text


def test_invariants() -> None:
    with pytest.raises(ValueError, match="unique"):
        ImageSet(("a", "a"), None, ("1", "2"), (), photo)
    with pytest.raises(ValueError, match="1 labels for 2"):
        ImageSet(("a", "b"), (0,), ("1", "2"), (), photo)
    with pytest.raises(ValueError, match="1 digests for 2"):
        ImageSet(("a", "b"), None, ("1",), (), photo)
    with pytest.raises(ValueError, match="at least one"):
        next(in_memory(2).batches(fit, size=0))


def test_a_photo_that_changes_during_the_run_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, "0/a.png", photo(0))
    images = load(tmp_path)
    path.write_bytes(photo(1))
    with pytest.raises(ImagesError, match=r"0/a\.png was changed while"):
        images.image(0)
    path.unlink()
    with pytest.raises(ImagesError, match=r"0/a\.png could be read before"):
        list(images.batches(fit, size=1))


def test_sets_of_files_go_to_other_processes(tmp_path: Path) -> None:
    put(tmp_path, "0/a.png", photo(0))
    put(tmp_path, "1/b.png", photo(1))
    images = pickle.loads(pickle.dumps(load(tmp_path).subset([1])))
    assert images.read(0) == photo(1)
    assert images.ids == ("1/b.png",)


@pytest.mark.shared
def test_real_photos() -> None:
    root = Path(__file__).parents[3] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("the evaluation photos are not beside the checkout")
    rows = json.loads((root / "imagenet_class_index.json").read_text())
    names = [row["name"] for row in rows]
    ids = [row["wnid"] for row in rows]
    manifest = load(root / "spurious-imagenet-dev/labels.csv", names=names, ids=ids)
    folder = load(root / "spurious-imagenet-dev", names=names, ids=ids)
    assert len(manifest) == 200
    assert (manifest.ids, manifest.labels) == (folder.ids, folder.labels)
    assert manifest.digest == folder.digest
