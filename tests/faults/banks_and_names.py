"""Concept banks and files of class names that cannot be used."""

from __future__ import annotations

import pickle

from table import Called, Fault, Place, rows

File = tuple[str, str | bytes]


def _bank(place: Place, file: File) -> Called:
    return place.audit("--concepts", str(place.write(*file)))


def _names(place: Place, file: File) -> Called:
    return place.audit("--class-names", str(place.write(*file)))


BANKS_AND_NAMES: tuple[Fault, ...] = (
    *rows(
        "bank",
        _bank,
        {
            "empty": (("b.txt", ""), "names no concept; write one a line"),
            "only comments": (("b.txt", "# sky\n"), "names no concept; write one a line"),
            "a name of 81 characters": (
                ("b.txt", "x" * 81),
                "': name has 81 characters; use at most 80",
            ),
            "a name that reverses text": (
                ("b.txt", "\u202eabc"),
                "line 1: Concept '\\u202eabc': name holds control or invisible characters",
            ),
            "the same name in another case": (
                ("b.txt", "sky\nSKY\n"),
                "line 2: 'SKY' already stands in 1",
            ),
            "a name of slashes": (
                ("b.txt", "///"),
                "line 1: Concept '///': prompts is empty; give at least one caption",
            ),
            "no UTF-8": (("b.txt", b"\xff\xff"), "is not UTF-8 text (byte 0); save it as UTF-8"),
            "5 MB": (("b.txt", "x\n" * 2_600_000), "': Larger than 4,194,304 bytes"),
            "5,001 concepts": (
                ("b.txt", "\n".join(f"c{i}" for i in range(5001))),
                "holds more than 5000 concepts; split it",
            ),
            "broken TOML": (
                ("b.toml", "[[concept]"),
                "cannot be parsed: Expected ']]' at the end of an array declaration (at line 1, column 10)",
            ),
            "TOML 100,000 deep": (
                ("b.toml", "a = " + "[" * 10**5),
                "cannot be parsed: maximum recursion depth exceeded",
            ),
            "an unknown key": (
                ("b.toml", '[[concept]]\nname="a"\nx=1\n'),
                "Concept 'a' has the unknown key 'x'",
            ),
            "an unknown drawing": (
                ("b.toml", '[[concept]]\nname="a"\ndrawing="../x"\n'),
                "Concept 'a': drawing = '../x' is none of the 58 drawings; the closest are letterbox",
            ),
            "photos outside": (
                ("b.toml", '[[concept]]\nname="a"\nphotos="../../../etc"\n'),
                "Concept 'a': photos = '../../../etc' is not a folder below that of the bank",
            ),
            "no prompts": (
                ("b.toml", '[[concept]]\nname="a"\nprompts=[]\n'),
                "Concept 'a': prompts is empty; give at least one caption",
            ),
            "a number as name": (
                ("b.toml", "[[concept]]\nname=7\n"),
                "[[concept]] number 1 has no name",
            ),
            "a text as concept": (
                ("b.toml", 'concept="x"\n'),
                "concept must be written as [[concept]] tables",
            ),
            "a number of 5,000 digits": (
                ("b.toml", '[[concept]]\nname="a"\nextrinsic=' + "9" * 5000 + "\n"),
                "cannot be parsed: Exceeds the limit (4300 digits) for integer string conversion: value",
            ),
        },
    ),
    *rows(
        "bank path",
        lambda place, path: place.audit("--concepts", path),
        {
            "missing": ("nowhere", "Cannot read the concepts 'nowhere': No such file or directory"),
            "a folder": ("/", "Cannot read the concepts '/': Is a directory"),
            "a device": ("/dev/zero", "Cannot read the concepts '/dev/zero': Not a regular file"),
            "empty": ("", "Cannot read the concepts '.': Is a directory"),
        },
    ),
    *rows(
        "class names",
        _names,
        {
            "an empty name": (("n.json", '["a", "", "c"]'), "has no name"),
            "a null": (("n.json", '["a", null, "c"]'), "is neither a name nor a table of names"),
            "an object as name": (("n.json", '["a", {"x": 1}, "c"]'), "has no name"),
            "a number": (("n.json", "7"), "holds no rows of class names"),
            "an empty list": (("n.json", "[]"), "holds no rows of class names"),
            "JSON 100,000 deep": (
                ("n.json", "[" * 10**5),
                "maximum recursion depth exceeded while decoding a JSON array from a unicode string",
            ),
            "an index of 5,000 digits": (
                ("n.json", '{"' + "1" * 5000 + '": "a"}'),
                "', not a whole number",
            ),
            "a number of 5,000 digits": (
                ("n.json", "[" + "1" * 5000 + "]"),
                "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
            ),
            "half a surrogate pair": (
                ("n.json", '["a", "\\ud800", "c"]'),
                "The class names of python:nets:make hold '\\ud800', which no file can hold; give others",
            ),
            "two names for three classes": (
                ("n.txt", "a\nb\n"),
                "python:nets:make has 3 classes and there are 2 class names; give a file with one for each",
            ),
            "four names for three classes": (
                ("n.txt", "a\nb\nc\nd\n"),
                "python:nets:make has 3 classes and there are 4 class names; give a file with one for each",
            ),
            "no UTF-8": (
                ("n.txt", b"\xff\xfe\xff"),
                "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
            ),
            "a blank line between": (("n.txt", "a\n\nc\n"), "has no name"),
            "an index twice": (
                ("n.csv", "index,name\n0,a\n0,b\n1,c\n"),
                "holds the class index 0 twice; the 3 rows must have the indices 0 to 2",
            ),
            "an index missing": (
                ("n.csv", "index,name\n0,a\n2,b\n3,c\n"),
                "holds the class index 2 but not the one before it; the 3 rows must have the indices 0 to",
            ),
            "a negative index": (
                ("n.csv", "index,name\n-1,a\n0,b\n1,c\n"),
                "has the index '-1', not a whole number",
            ),
            "an id twice": (
                ("n.csv", "id,name\nx,a\nx,b\ny,c\n"),
                "must give each class an id of its own, or none of them",
            ),
            "an id missing": (
                ("n.csv", "id,name\nx,a\n,b\ny,c\n"),
                "must give each class an id of its own, or none of them",
            ),
            "no column of names": (("n.csv", "a,b\n1,2\n"), "has no name"),
            "an open quote": (("n.csv", 'name\n"a\n'), "Cannot read the class names"),
            "an empty file": (("n.txt", ""), "holds no rows of class names"),
            "a pickle": (
                ("n.pkl", pickle.dumps(["a", "b", "c"])),
                "'utf-8' codec can't decode byte 0x80 in position 0: invalid start byte",
            ),
        },
    ),
    *rows(
        "class names path",
        lambda place, path: place.audit("--class-names", path),
        {
            "a folder": ("/", "Cannot read the class names /: Is a directory"),
            "a device": ("/dev/zero", "Cannot read the class names /dev/zero: Not a regular file"),
            "missing": (
                "nowhere.txt",
                "Cannot read the class names nowhere.txt: No such file or directory",
            ),
        },
    ),
)
