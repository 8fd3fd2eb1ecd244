"""Class names: every form of a user's file, and those of ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from saved import load, resnet

from auditor.errors import ModelError


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("n.txt", "a b\nc\n\n", None),
        ("n.csv", "index,id,name\n1,n2,c\n0,n1,a b\n", ("n1", "n2")),
        ("n.csv", "\ufeffName\na b\nc\n", None),
        ("n.json", '["a b", "c"]', None),
        ("n.json", '[{"index": 1, "name": "c"}, {"index": 0, "name": "a b"}]', None),
        ("n.json", '[{"wnid": "n1", "name": "a b"}, {"wnid": "n2", "name": "c"}]', ("n1", "n2")),
        ("n.json", '{"1": ["n2", "c"], "0": ["n1", "a b"]}', ("n1", "n2")),
        ("n.json", '{"0": "a b", "1": "c"}', None),
    ],
)
def test_class_names_files(
    tmp_path: Path, name: str, text: str, ids: tuple[str, ...] | None
) -> None:
    from auditor.core.class_names import read_class_names

    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    found = read_class_names(path)
    assert found.names == ("a b", "c")
    assert found.ids == ids


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", "", "holds no rows"),
        ("n.txt", "a\n\nc\n", "Row 2 of .* has no name"),
        ("n.csv", "index,name\n0,a\n0,b\n", "index 0 twice"),
        ("n.csv", "index,name\n0,a\n2,b\n", "index 2 but not the one before it"),
        ("n.csv", "index,name\nx,a\n", "the index 'x', not a whole number"),
        ("n.csv", "index,id,name\n0,n1,a\n1,n1,b\n", "each class an id of its own"),
        ("n.csv", "index,id,name\n0,n1,a\n1,,b\n", "each class an id of its own"),
        ("n.json", "{", "Cannot read the class names"),
        ("n.json", "[1, 2]", "Row 1 of .* is neither a name nor"),
        ("n.json", "3", "holds no rows"),
        ("n.json", "[" * 200_000, "Cannot read the class names"),
        ("n.csv", f"index,name\n{'1' * 5000},a\n", "the index '1{80}', not a whole number"),
    ],
)
def test_class_names_that_cannot_be_used(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    from auditor.core.class_names import read_class_names

    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        read_class_names(path)
    with pytest.raises(ModelError, match="Cannot read the class names"):
        read_class_names(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ('["\\ud800b", "c", "d", "e", "f"]', "names"),
        (
            '{"0": ["\\udfff", "a"], "1": ["b", "b"], "2": ["c", "c"], "3": ["d", "d"], '
            '"4": ["e", "e"]}',
            "ids",
        ),
    ],
)
def test_half_characters_are_no_class_names(tmp_path: Path, rows: str, what: str) -> None:
    (tmp_path / "n.json").write_text(rows)
    torch.save(resnet().state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"The class {what} of .* hold '\\ud"):
        load(
            f"file:{tmp_path / 'w.pt'}",
            arch="timm:test_resnet",
            class_names=str(tmp_path / "n.json"),
        )


def test_imagenet_names_and_ids() -> None:
    from auditor.core.class_names import imagenet

    found = imagenet(1000)
    assert found is not None
    assert found.ids is not None
    assert (found.names[0], found.ids[0]) == ("tench", "n01440764")
    assert (found.names[134], found.ids[134]) == ("crane bird", "n02012849")
    assert (found.names[517], found.ids[517]) == ("crane", "n03126707")
    assert len(set(found.ids)) == 1000
    assert imagenet(10) is None
