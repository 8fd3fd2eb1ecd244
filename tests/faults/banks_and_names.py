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
            "empty": (("b.txt", ""), ""),
            "only comments": (("b.txt", "# sky\n"), ""),
            "a name of 81 characters": (("b.txt", "x" * 81), ""),
            "a name that reverses text": (("b.txt", "\u202eabc"), ""),
            "the same name in another case": (("b.txt", "sky\nSKY\n"), ""),
            "a name of slashes": (("b.txt", "///"), ""),
            "no UTF-8": (("b.txt", b"\xff\xff"), ""),
            "5 MB": (("b.txt", "x\n" * 2_600_000), ""),
            "5,001 concepts": (("b.txt", "\n".join(f"c{i}" for i in range(5001))), ""),
            "broken TOML": (("b.toml", "[[concept]"), ""),
            "TOML 100,000 deep": (("b.toml", "a = " + "[" * 10**5), ""),
            "an unknown key": (("b.toml", '[[concept]]\nname="a"\nx=1\n'), ""),
            "an unknown drawing": (("b.toml", '[[concept]]\nname="a"\ndrawing="../x"\n'), ""),
            "photos outside": (("b.toml", '[[concept]]\nname="a"\nphotos="../../../etc"\n'), ""),
            "no prompts": (("b.toml", '[[concept]]\nname="a"\nprompts=[]\n'), ""),
            "a number as name": (("b.toml", "[[concept]]\nname=7\n"), ""),
            "a text as concept": (("b.toml", 'concept="x"\n'), ""),
            "a number of 5,000 digits": (
                ("b.toml", '[[concept]]\nname="a"\nextrinsic=' + "9" * 5000 + "\n"),
                "",
            ),
        },
    ),
    *rows(
        "bank path",
        lambda place, path: place.audit("--concepts", path),
        {
            "missing": ("nowhere", ""),
            "a folder": ("/", ""),
            "a device": ("/dev/zero", ""),
            "empty": ("", ""),
        },
    ),
    *rows(
        "class names",
        _names,
        {
            "an empty name": (("n.json", '["a", "", "c"]'), ""),
            "a null": (("n.json", '["a", null, "c"]'), ""),
            "an object as name": (("n.json", '["a", {"x": 1}, "c"]'), ""),
            "a number": (("n.json", "7"), ""),
            "an empty list": (("n.json", "[]"), ""),
            "JSON 100,000 deep": (("n.json", "[" * 10**5), ""),
            "an index of 5,000 digits": (("n.json", '{"' + "1" * 5000 + '": "a"}'), ""),
            "a number of 5,000 digits": (("n.json", "[" + "1" * 5000 + "]"), ""),
            "half a surrogate pair": (("n.json", '["a", "\\ud800", "c"]'), ""),
            "two names for three classes": (("n.txt", "a\nb\n"), ""),
            "four names for three classes": (("n.txt", "a\nb\nc\nd\n"), ""),
            "no UTF-8": (("n.txt", b"\xff\xfe\xff"), ""),
            "a blank line between": (("n.txt", "a\n\nc\n"), ""),
            "an index twice": (("n.csv", "index,name\n0,a\n0,b\n1,c\n"), ""),
            "an index missing": (("n.csv", "index,name\n0,a\n2,b\n3,c\n"), ""),
            "a negative index": (("n.csv", "index,name\n-1,a\n0,b\n1,c\n"), ""),
            "an id twice": (("n.csv", "id,name\nx,a\nx,b\ny,c\n"), ""),
            "an id missing": (("n.csv", "id,name\nx,a\n,b\ny,c\n"), ""),
            "no column of names": (("n.csv", "a,b\n1,2\n"), ""),
            "an open quote": (("n.csv", 'name\n"a\n'), ""),
            "an empty file": (("n.txt", ""), ""),
            "a pickle": (("n.pkl", pickle.dumps(["a", "b", "c"])), ""),
        },
    ),
    *rows(
        "class names path",
        lambda place, path: place.audit("--class-names", path),
        {"a folder": ("/", ""), "a device": ("/dev/zero", ""), "missing": ("nowhere.txt", "")},
    ),
)
