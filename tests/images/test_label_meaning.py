"""What labels mean: all of a source are read one way, and two ways that differ are asked about."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from auditor.errors import ImagesError
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.images.label_meaning import READINGS, ClassMatcher, Column, read_column


def photo(seed: int) -> bytes:
    """A picture of its own, for copies count once."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (seed, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()


TWELVE = tuple(f"kind {chr(97 + k)}" for k in range(12))
SORTED = tuple(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2, ...


def read(
    values: Sequence[str | None],
    names: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    wanted: str = "auto",
    declared: Sequence[str] | None = None,
    numbered: bool = False,
):
    column = Column("", tuple(values), None if declared is None else tuple(declared), numbered)
    return read_column(column, ClassMatcher(names, ids), wanted, source="photos")


def folders(root: Path, names: Sequence[str]) -> Path:
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "a.png").write_bytes(photo(k))
    return root


def load(path: Path, names: Sequence[str], **options) -> ImageSet:
    return image_set.load(
        str(path), class_names=names, class_ids=options.pop("ids", None), labelled=True, **options
    )


def by_top(images: ImageSet) -> dict[str, int]:
    labels = images.labels or ()
    return {name.split("/")[0]: k for name, k in zip(images.ids, labels, strict=True)}


# --- folders whose names are numbers -------------------------------------------------------------


def test_folders_0_to_11_are_asked_about(tmp_path: Path) -> None:
    folders(tmp_path, SORTED)
    with pytest.raises(ImagesError) as error:
        load(tmp_path, TWELVE)
    assert str(error.value) == (
        f"The labels of {tmp_path} can be read in two ways: '2' is class 2 ('kind c') by index and "
        "class 4 ('kind e') by the order of the names as text, which torchvision's ImageFolder "
        "follows; say --labels index or --labels folder-order."
    )
    by_index = load(tmp_path, TWELVE, labels="index")
    assert by_top(by_index) == {str(k): k for k in range(12)}
    assert dict(zip(by_index.ids, by_index.readings["folder-order"], strict=True))["10/a.png"] == 2
    ordered = load(tmp_path, TWELVE, labels="folder-order")
    assert by_top(ordered) == {text: place for place, text in enumerate(SORTED)}
    assert dict(zip(ordered.ids, ordered.readings["index"], strict=True))["10/a.png"] == 10


@pytest.mark.parametrize(
    ("tops", "names"),
    [
        ([str(k) for k in range(10)], TWELVE[:10]),  # both ways agree
        ([f"{k:02}" for k in range(12)], TWELVE),
        ([str(k) for k in range(11)], TWELVE),  # too few for the order to be the model's
        (["10", "2"], TWELVE),
        ([str(k) for k in range(12)], [str(k) for k in range(12)]),  # the model's own names say it
    ],
)
def test_numbers_that_nobody_needs_to_ask_about(
    tmp_path: Path, tops: list[str], names: Sequence[str]
) -> None:
    images = load(folders(tmp_path, tops), names)
    assert by_top(images) == {top: int(top) for top in tops}
    assert images.readings.keys() <= {"folder-order"}  # an alternative where accuracy is poor


def test_an_empty_class_folder_counts_in_the_order(tmp_path: Path) -> None:
    folders(tmp_path, SORTED[:-1])
    (tmp_path / "9").mkdir()
    with pytest.raises(ImagesError, match=r"--labels index or --labels folder-order"):
        load(tmp_path, TWELVE)


def test_the_order_alone_is_offered_and_not_taken(tmp_path: Path) -> None:
    folders(tmp_path, [str(k) for k in range(1, 13)])
    with pytest.raises(ImagesError, match=r"no class of the model: '12'; .* --labels folder-order"):
        load(tmp_path, TWELVE)
    assert by_top(load(tmp_path, TWELVE, labels="folder-order"))["10"] == 1
    other = folders(tmp_path / "words", ["loup", "chien", "renard"])
    with pytest.raises(ImagesError, match=r"3 labels that match no class .* --labels folder-order"):
        load(other, ["wolf", "dog", "fox"])
    with pytest.raises(ImagesError, match=r"no class of the model by index: .*; check --labels\."):
        load(other, ["wolf", "dog", "fox"], labels="index")


def test_quarantined_photos_leave_the_other_readings_too(tmp_path: Path) -> None:
    folders(tmp_path, SORTED)
    (tmp_path / "10" / "a.png").write_bytes(b"no photo")
    images = load(tmp_path, TWELVE, labels="index")
    assert len(images.readings["folder-order"]) == len(images) == 11
    part = images.subset([3, 0])
    assert part.readings == {"folder-order": (4, 0)}
    assert part.labels == (2, 0)


# --- names, ids and mixtures ---------------------------------------------------------------------


def test_names_that_are_numbers_of_other_classes_are_asked_about() -> None:
    with pytest.raises(ImagesError, match=r"'2' is class 4 \('2'\) by class name and class 2"):
        read(SORTED, SORTED)
    assert read(SORTED, SORTED, wanted="name").classes["10"] == 2
    assert read(SORTED, SORTED, wanted="index").classes["10"] == 10
    with pytest.raises(
        ImagesError, match=r"'1' is class 1 .* by index and class 2 .* by class nam"
    ):
        read(["0", "1"], ["5", "cat", "1"])  # not all are names, but one is that of another class


def test_all_labels_together_tell_how_each_is_read() -> None:
    names = [f"x{k}" for k in range(800)]
    names[3] = "747"
    assert read(["747", "x5"], names).classes == {"747": 3, "x5": 5}
    flowers = [str(k) for k in range(1, 103)]
    meaning = read(flowers, [f"flower {k}" for k in flowers], ids=flowers)
    assert meaning.reading == "id"
    assert meaning.classes["102"] == 101
    with pytest.raises(ImagesError, match=r"by folder id and .* say --labels id or --labels index"):
        read(flowers[:20], [f"flower {k}" for k in flowers], ids=flowers)


def test_a_mixture_without_doubt_is_taken_and_told() -> None:
    ids = ("n0", "n1", "n2", "n3")
    meaning = read(["3", "n1", "Wolf"], ["wolf", "dog", "fox", "cat"], ids=ids)
    assert meaning.classes == {"3": 3, "n1": 1, "Wolf": 0}
    (remark,) = meaning.remarks
    assert remark.code == "labels-of-several-kinds"
    assert remark.text == (
        "The labels of photos are not all of one kind: 1 by folder id such as 'n1', 1 by class name"
        " such as 'Wolf', 1 by index such as '3'. Each can mean one class of the model only."
    )
    with pytest.raises(ImagesError, match=r"1 label that matches no class"):
        read(["3", "n1", "bear"], ["wolf", "dog", "fox", "cat"], ids=ids)


def test_a_mixture_that_a_training_may_have_numbered_is_asked_about() -> None:
    tops = [*(str(k) for k in range(11)), "other"]
    names = [*TWELVE[:11], "other"]
    with pytest.raises(
        ImagesError, match=r"by index and class 2 .*; say --labels folder-order, or"
    ):
        read(tops, names, declared=tops)
    assert read(tops, names, declared=tops, wanted="folder-order").classes["other"] == 11


@pytest.mark.parametrize(
    ("name", "top"),
    [
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
        (unicodedata.normalize("NFD", "Ångström"), unicodedata.normalize("NFC", "ångström")),
        ("Straße_in Köln", unicodedata.normalize("NFD", "STRASSE in_köln")),
        ("가나", unicodedata.normalize("NFD", "가나")),
    ],
)
def test_names_match_in_one_unicode_form(tmp_path: Path, name: str, top: str) -> None:
    assert load(folders(tmp_path, [top]), ["other", name]).labels == (1,)
    ids = ["x", unicodedata.normalize("NFC", top)]
    assert load(tmp_path, ["a", "b"], ids=ids).labels == (1,)


def test_every_reading_has_words() -> None:
    assert set(READINGS) == {"id", "name", "index", "folder-order"}


# --- lists of classes that a data set declares ---------------------------------------------------


def test_stored_numbers_are_outputs_where_names_say_nothing() -> None:
    meaning = read(["10", "2"], TWELVE, declared=SORTED, numbered=True)
    assert meaning.classes == {"10": 2, "2": 4}
    (remark,) = meaning.remarks
    assert (remark.code, remark.serious) == ("labels-by-stored-number", False)
    assert "'10' is class 2 ('kind c')" in remark.text
    strangers = read(["cat", "dog"], ["wolf", "husky"], declared=["cat", "dog"], numbered=True)
    assert strangers.classes == {"cat": 0, "dog": 1}
    assert strangers.remarks[0].serious
    outputs = read(["cat"], ["LABEL_0", "LABEL_1"], declared=["cat", "dog"], numbered=True)
    assert not outputs.remarks[0].serious


def test_names_decide_over_stored_numbers_of_another_length() -> None:
    declared = ["dog", "wolf"]
    meaning = read(["dog", "wolf"], ["wolf", "fox", "dog"], declared=declared, numbered=True)
    assert (meaning.reading, meaning.classes) == ("name", {"dog": 2, "wolf": 0})
    with pytest.raises(ImagesError, match=r"2 labels that match no class"):
        read(["a", "b"], ["wolf", "fox", "dog"], declared=["a", "b"], numbered=True)
    forced = read(
        ["a", "b"], ["wolf", "fox", "dog"], declared=["a", "b"], numbered=True, wanted="index"
    )
    assert forced.classes == {"a": 0, "b": 1}
    digits = read(["3", "7"], TWELVE, declared=["3", "7"], numbered=True)
    assert digits.classes == {"3": 3, "7": 7}


def test_names_and_stored_numbers_that_differ_are_asked_about() -> None:
    names, declared = ["wolf", "fox", "dog"], ["dog", "fox", "wolf"]
    with pytest.raises(
        ImagesError,
        match=r"by class name and .* by the stored number; say --labels name or --labels in",
    ):
        read(["dog", "fox"], names, declared=declared, numbered=True)
    assert read(["dog"], names, declared=declared, numbered=True, wanted="name").classes["dog"] == 2
    with pytest.raises(
        ImagesError, match=r"'dog' is class 0 .* by the stored number and class 2 .* by class n"
    ):
        read(["dog", "bear"], names, declared=["dog", "bear", "x"], numbered=True)
    twins = read(
        ["crane", "tench, Tinca tinca"], ["tench", "crane", "crane"],
        declared=["tench, Tinca tinca", "crane", "crane, machine"], numbered=True,
    )  # fmt: skip
    assert twins.classes == {"crane": 1, "tench, Tinca tinca": 0}
    assert twins.remarks == ()


# --- columns of tables ---------------------------------------------------------------------------

FOUR = ("wolf", "dog", "fox", "cat")


def table(root: Path, *rows: Sequence[object]) -> Path:
    """A manifest of photos that all exist."""
    (root / "p").mkdir(exist_ok=True)
    for k in range(len(rows) - 1):
        (root / f"p/{k}.png").write_bytes(photo(k))
    path = root / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], "path"])
        writer.writerows([*row, f"p/{k}.png"] for k, row in enumerate(rows[1:]))
    return path


@pytest.mark.parametrize(
    ("header", "first"),
    [("index", 0), ("index", 1), ("Index", 40), ("Unnamed: 0", 0), ("", 0), ("id", 0)],
)
def test_row_numbers_are_no_classes(tmp_path: Path, header: str, first: int) -> None:
    rows = [(first + k, name) for k, name in enumerate(["fox", "fox", "wolf", "cat"])]
    names = [*FOUR, *(f"unused {k}" for k in range(100))]
    images = load(table(tmp_path, (header, "label"), *rows), names)
    assert images.labels == (2, 2, 0, 3)
    numbered = header.lower() == "index"
    assert [each.code for each in images.remarks] == ["label-columns-passed-over"] * numbered


def test_row_numbers_alone_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, ["index"], [0], [1], [2])
    with pytest.raises(
        ImagesError, match=r"The column index of .* numbers its rows .* --label-col"
    ):
        load(path, FOUR)
    assert load(path, FOUR, label_column="index").labels == (0, 1, 2)
    repeated = table(tmp_path, ["index"], [0], [3], [0])
    assert load(repeated, FOUR).labels == (0, 3, 0)
    assert load(table(tmp_path, ["class_index"], [3], [1], [2]), FOUR).labels == (3, 1, 2)


def test_columns_that_agree_are_all_used(tmp_path: Path) -> None:
    rows = [(2, "fox", 2), (0, "wolf", 0), (2, "Fox", 2)]
    images = load(table(tmp_path, ("class_index", "class_name", "label"), *rows), FOUR)
    assert (images.labels, images.remarks) == ((2, 0, 2), ())


def test_columns_that_contradict_each_other_are_asked_about(tmp_path: Path) -> None:
    path = table(tmp_path, ("index", "label"), (2, "fox"), (2, "wolf"), (0, "wolf"))
    with pytest.raises(ImagesError) as error:
        load(path, FOUR)
    assert str(error.value) == (
        f"Two columns of {path} name different classes, first in row 2: index says '2' and label "
        "'wolf'; say which holds the labels with --label-column index or --label-column label."
    )
    assert load(path, FOUR, label_column="Label").labels == (2, 0, 0)
    assert load(path, FOUR, label_column="index").labels == (2, 2, 0)


def test_a_column_that_is_clear_explains_one_that_is_not(tmp_path: Path) -> None:
    names = ("1", "0", "2")
    rows = [("1", 1), ("1", 1), ("0", 0)]
    with pytest.raises(ImagesError, match=r"--labels name or --labels index"):
        load(table(tmp_path, ("label", "x"), *rows), names)
    assert load(table(tmp_path, ("label", "class_index"), *rows), names).labels == (1, 1, 0)


def test_a_column_of_another_numbering_is_passed_over(tmp_path: Path) -> None:
    rows = [(3, "fox"), (4, "cat"), (1, "wolf")]
    images = load(table(tmp_path, ("label", "class_name"), *rows), FOUR)
    assert images.labels == (2, 3, 0)
    assert images.remarks[0].text.endswith(
        "the column 'label' could not be read as classes of the model; the labels are those of "
        "class_name."
    )
    with pytest.raises(
        ImagesError, match=r"name different classes, first in row 1: label says '3'"
    ):
        load(table(tmp_path, ("label", "class_name"), (3, "fox"), (1, "wolf")), FOUR)


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    path = table(tmp_path, ("Species", "label"), ("fox", "x"), ("cat", "y"))
    assert load(path, FOUR, label_column="species").labels == (2, 3)
    with pytest.raises(ImagesError, match=r"no column 'kind', .* its columns are 'species', 'lab"):
        load(path, FOUR, label_column="kind")
    with pytest.raises(ImagesError, match=r"without columns; leave --label-column out"):
        load(folders(tmp_path / "f", FOUR), FOUR, label_column="label")


def test_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    images = load(table(tmp_path, ["label"], ["fox"], [""], [" "], ["cat"]), FOUR)
    assert (images.ids, images.labels) == (("p/0.png", "p/3.png"), (2, 3))
    (remark,) = images.remarks
    assert remark.code == "rows-without-label"
    assert remark.text.startswith("2 of 4 photos of ")
