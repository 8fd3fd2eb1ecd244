import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from auditor.concepts.banks import CATEGORIES, Concept, ConceptBank, _lexicon, load, means_class
from auditor.drawing.drawings import DRAWINGS
from auditor.errors import ConceptsError

BANK = {concept.name: concept for concept in load(None).concepts}


def write(folder: Path, text: str, name: str = "bank.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_built_in_bank_covers_the_world() -> None:
    assert len(BANK) >= 330
    counts = Counter(concept.category for concept in BANK.values())
    assert set(counts) == set(CATEGORIES)
    assert sum(concept.extrinsic for concept in BANK.values()) >= 250
    assert all(len(set(concept.prompts)) >= 3 for concept in BANK.values())
    assert all(concept.extrinsic == CATEGORIES[concept.category] for concept in BANK.values())


def test_every_drawing_has_a_concept_of_its_name() -> None:
    drawn = {c.drawing: c.name for c in BANK.values() if c.drawing is not None}
    assert set(drawn) == set(DRAWINGS)
    assert all(name.casefold().replace(" ", "_") == drawing for drawing, name in drawn.items())


@pytest.mark.parametrize(
    ("concept", "core_for", "not_for"),
    [
        ("tree trunk", ("tree", "oak", "forest"), ("tree frog", "street", "trunk call")),
        ("face", ("woman", "baby"), ("mannequin", "clock")),
        ("person", ("man", "girl"), ("bride", "scuba diver")),
        ("flowers", ("rose", "herbs and roses"), ("flowerpot", "girl with hat and roses")),
        ("church interior", ("church", "churches and temples"), ("organ", "church bell")),
        ("sand", ("beach",), ("sandal", "beach wagon")),
        ("keyboard", ("laptop", "typewriter"), ("piano", "desktop computer")),
        ("smile", (), ("woman", "man", "face")),
        ("bare skin", (), ("woman", "baby")),
        ("cardboard box", ("carton",), ("mailbox",)),
        ("wire fence", ("fence", "chainlink fence"), ("wire-haired fox terrier", "wall clock")),
    ],
)
def test_parts_and_more_general_names_are_core_though_extrinsic(
    concept: str, core_for: tuple[str, ...], not_for: tuple[str, ...]
) -> None:
    assert BANK[concept].extrinsic
    assert [name for name in core_for if not means_class(BANK[concept], name)] == []
    assert [name for name in not_for if means_class(BANK[concept], name)] == []


def test_tables_of_extrinsic_concepts_are_not_passed_on() -> None:
    kinds = _lexicon().read("beach").kinds
    assert "beach" in kinds
    assert "sand" not in kinds, "what means sand would mean every beach"
    assert "person" not in _lexicon().read("woman").kinds


def test_digest_follows_the_content(tmp_path: Path) -> None:
    one = '[[concept]]\nname = "soot"\nprompts = ["black soot"]\n'
    first = load(write(tmp_path, one))
    assert first == load(write(tmp_path, one, "other.toml"))
    assert load(write(tmp_path, one.replace("black", "grey"))).digest != first.digest
    assert load(write(tmp_path, one + "extrinsic = false\n")).digest != first.digest


def test_toml_bank(tmp_path: Path) -> None:
    (tmp_path / "rulers").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "rulers" / "a.png")
    text = """
    [[concept]]
    name = "a ruler at the edge"
    category = "artefact"
    prompts = ["a ruler beside a mole"]
    drawing = "ruler"
    photos = "rulers"

    [[concept]]
    name = "soot"
    """
    ruler, soot = load(write(tmp_path, text)).concepts
    assert ruler == Concept(
        "a ruler at the edge",
        "artefact",
        ("a ruler beside a mole",),
        "ruler",
        tmp_path.resolve() / "rulers",
        True,
    )
    assert (soot.category, soot.extrinsic) == ("object", True)
    assert len(soot.prompts) >= 2
    assert all("soot" in prompt for prompt in soot.prompts)


def test_example_photos_count_in_the_digest(tmp_path: Path) -> None:
    (tmp_path / "soot").mkdir()
    text = '[[concept]]\nname = "soot"\nphotos = "soot"\n'
    Image.new("RGB", (8, 8)).save(tmp_path / "soot" / "a.png")
    before = load(write(tmp_path, text)).digest
    Image.new("RGB", (8, 8), "white").save(tmp_path / "soot" / "a.png")
    assert load(write(tmp_path, text)).digest != before


def test_a_bank_can_add_to_the_built_in_one(tmp_path: Path) -> None:
    text = 'extends = "built-in"\n[[concept]]\nname = "soot"\n[[concept]]\nname = "Forest"\n'
    bank = load(write(tmp_path, text))
    assert len(bank.concepts) == len(BANK) + 1
    assert [c.category for c in bank.concepts if c.name == "Forest"] == ["object"]  # replaced


def test_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff# ours\nforest\n\n  Time  # known\r\nTIME STAMP\n", "list.txt")
    forest, time, stamp = load(path).concepts
    assert forest == BANK["forest"]
    assert (time.name, time.category) == ("Time", "object")
    assert stamp == BANK["time stamp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bank\.toml holds no \[\[concept\]\]\."),
        ("name = 3", r"bank\.toml has the unknown key 'name'; write \[\[concept\]\] tables\."),
        ("[concept]\nname='a'", r"must be written as \[\[concept\]\] tables"),
        ("concept = [1]", r"must be written as \[\[concept\]\] tables"),
        ("[[concept]", r"bank\.toml cannot be parsed: .*line 1"),
        ("x = " + "[" * 20_000, r"bank\.toml cannot be parsed"),
        ("x = " + "1" * 5000, r"bank\.toml cannot be parsed"),
        ("extends = 'other'", r"extends = 'other' is unknown; use \"built-in\""),
        ("[[concept]]\nprompts=['a']", r"\[\[concept\]\] number 1 has no name"),
        ("[[concept]]\nname=3", r"\[\[concept\]\] number 1 has no name"),
        ("[[concept]]\nname='a'\nkolor='b'", r"Concept 'a' has the unknown key 'kolor'"),
        ("[[concept]]\nname='a'\nprompts=[]", r"Concept 'a': prompts is empty; give"),
        ("[[concept]]\nname='a'\nprompts=['b', ' ']", r"Concept 'a': prompts is empty or padded"),
        ("[[concept]]\nname='a'\nprompts='b'", r"Concept 'a': prompts must be a list"),
        ("[[concept]]\nname='a'\nprompts=[1]", r"Concept 'a': prompts must be a list"),
        ("[[concept]]\nname='a'\nextrinsic='no'", r"Concept 'a': extrinsic must be true or false"),
        ("[[concept]]\nname='a'\ncategory='b'", r"Concept 'a': category = 'b' is none of backgr"),
        ("[[concept]]\nname='a'\ncategory=[]", r"Concept 'a': category must be a text"),
        (
            "[[concept]]\nname='a'\ndrawing='b'",
            r"Concept 'a': drawing = 'b' is none of the \d+ drawings; ",
        ),
        ("[[concept]]\nname='a'\nphotos='b'", r"Concept 'a': photos = 'b' is not a folder below"),
        ("[[concept]]\nname='a'\nphotos='..'", r"photos = '\.\.' is not a folder below"),
        ("[[concept]]\nname='a'\nphotos='/'", r"photos = '/' is not a folder below"),
        ('[[concept]]\nname="a"\nphotos="\\u0000"', r"is not a folder below"),
        ("[[concept]]\nname='a'\nphotos='.'", r"Concept 'a': photos = .* holds 0 photos"),
        ('[[concept]]\nname="a\\u0007b"', r"Concept 'a\\x07b': name holds control or invisible"),
        ("[[concept]]\nname='" + "a" * 81 + "'", r"name has 81 characters; use at most 80"),
        ("[[concept]]\nname='A'\n[[concept]]\nname='a '", r"'a ' is named twice, .* 1 and 2"),
    ],
)
def test_mistakes_in_a_bank_are_told_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConceptsError, match=message) as caught:
        load(write(tmp_path, text))
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n# nothing\n", r"names no concept; write one a line"),
        (b"snow\nrain\nSnow\n", r"line 3: 'Snow' already stands in 1\."),
        (b"sn\x00ow\n", r"line 1: Concept 'sn\\x00ow': name holds control or invisible"),
        (b"\xff\xfe", r"is not UTF-8 text \(byte 0\); save it as UTF-8\."),
        (b"a" * 100, r"line 1: Concept 'a+': name has 100 characters"),
        (b"a" * (5 * 2**20), r"Larger than 4,194,304 bytes"),
        (b"\n".join(b"c%d" % i for i in range(5001)), r"holds more than 5000 concepts"),
    ],
)
def test_mistakes_in_a_list_are_told_in_a_sentence(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(ConceptsError, match=message):
        load(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for spec in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConceptsError, match="Cannot read the concepts"):
            load(str(spec))
    with pytest.raises(ConceptsError, match="Cannot read the concepts"):
        load("a\0b")


def test_banks_made_in_code_are_checked() -> None:
    with pytest.raises(ConceptsError, match="holds no concept"):
        ConceptBank((), "")
    with pytest.raises(ConceptsError, match="'forest' is named twice"):
        ConceptBank((BANK["forest"], BANK["forest"]), "")


@pytest.mark.parametrize(
    ("concept", "class_name"),
    [
        ("bird", "indigo bunting"),  # kinds
        ("animal", "indigo bunting"),
        ("bird", "hen-of-the-woods bird"),
        ("dog", "Dandie Dinmont"),
        ("dog", "n02085936 Maltese dog, Maltese terrier, Maltese"),
        ("mammal", "Siamese cat, Siamese"),
        ("reptile", "green mamba"),
        ("water bird", "crane"),
        ("fish", "tench, Tinca tinca"),
        ("weasel", "black-footed ferret"),
        ("vehicle", "minivan"),
        ("bus", "school bus"),
        ("bus", "school_bus"),
        ("bus", "SchoolBus"),
        ("boat", "fireboat"),
        ("boat", "LIFEBOATS"),
        ("building", "boathouse"),
        ("fruit", "Granny Smith"),
        ("food", "Granny Smith"),
        ("sheep or goat", "ibex, Capra ibex"),
        ("wheels", "mountain bike"),  # parts
        ("wheels", "car wheel"),
        ("fur", "Border collie"),
        ("beak", "macaw"),
        ("wings", "warplane"),
        ("windows of a building", "church, church building"),
        ("striped pattern", "zebra"),
        ("umbrella", "umbrella"),  # names
        ("umbrella", "Umbrellas"),
        ("cup", "coffee cup"),
        ("cup", "cup of tea"),
        ("pole", "flagpole"),
        ("leaf", "maple leaves"),
        ("ball", "tennis ball"),
        ("ruler", "rule, ruler"),
        ("flower", "flower (plant)"),
        ("harbour", "harbor"),
    ],
)
def test_concepts_that_mean_the_class(concept: str, class_name: str) -> None:
    assert means_class(BANK[concept], class_name)


@pytest.mark.parametrize(
    ("concept", "class_name"),
    [
        ("big cat", "sea lion"),  # opaque phrases
        ("pig", "guinea pig"),
        ("dog", "hotdog, hot dog, red hot"),
        ("cat", "Madagascar cat, ring-tailed lemur"),
        ("fish", "jellyfish"),
        ("fish", "starfish, sea star"),
        ("bird", "hen-of-the-woods, Polyporus frondosus"),
        ("chicken", "shower cap"),
        ("swimming pool", "shower cap"),
        ("person", "fur coat"),
        ("fur", "goldfish"),
        ("dog", "dogsled, dog sled"),  # the first word is not the thing
        ("snow", "snowplow"),
        ("snow", "snowmobile"),
        ("car", "carton"),
        ("car", "car mirror"),
        ("bird", "bird feeder"),
        ("hair", "rocking chair"),  # endings that are no words
        ("rain", "bullet train"),
        ("rope", "Europe"),
        ("table", "vegetable"),
        ("vehicle", "axolotl"),
        ("round shape", "school bus"),  # parts are not passed on
        ("time stamp", "rubber stamp"),  # what is drawn on a photo is only itself
        ("logo", "carton"),
        ("chinese watermark", "carton"),
        ("latin watermark", "watermark"),
        ("water surface", "water jug"),
        ("grass", "grasshopper"),
        ("rainbow", "bow"),
        ("bird of prey", "goldfinch"),
        ("tree", "tree frog"),
        ("flower meadow", "daisy"),
        ("bird", ""),
        ("bird", "  ,;() 42"),
    ],
)
def test_concepts_that_do_not_mean_the_class(concept: str, class_name: str) -> None:
    assert not means_class(BANK[concept], class_name)


def test_extrinsic_concepts_are_core_only_by_name() -> None:
    tables = [c for c in BANK.values() if c.extrinsic and means_class(c, "house finch, linnet")]
    assert tables == []


def test_a_concept_of_ones_own_can_mean_a_class(tmp_path: Path) -> None:
    text = '[[concept]]\nname = "person"\nmeans = ["groom", "scuba diver"]\n'
    (person,) = load(write(tmp_path, text)).concepts
    assert means_class(person, "scuba diver")
    assert means_class(person, "groom, bridegroom")
    assert not means_class(person, "diver")
    assert not means_class(BANK["person"], "groom, bridegroom")


@given(st.text(max_size=60), st.sampled_from(sorted(BANK)))
def test_any_class_name_can_be_read(class_name: str, name: str) -> None:
    assert means_class(BANK[name], class_name) in {True, False}
    assert means_class(BANK[name], name)


def test_hostile_class_names_are_read_in_time() -> None:
    start = time.process_time()
    for hostile in ("a" * 1_000_000, "or " * 500_000, "," * 1_000_000, "bird " * 200_000):
        for name in ("bird", "snow", "time stamp"):
            means_class(BANK[name], hostile)
    assert time.process_time() - start < 10


def test_a_slash_stands_between_alternatives(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("twigs/snow\nocean\n")
    first, second = load(str(path)).concepts
    assert first.name == "twigs/snow"
    assert any("snow" in prompt and "twigs" not in prompt for prompt in first.prompts)
    assert len(first.prompts) == 2 * len(second.prompts)
