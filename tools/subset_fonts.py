"""Make the font subsets in `auditor/data/fonts` from full fonts.

    python tools/subset_fonts.py --chinese NotoSansSC-Bold.ttf \
        --latin DejaVuSans-Bold.ttf --mono DejaVuSansMono-Bold.ttf

Only the characters that the drawings use are kept, hinting and layout tables go, and the fonts
are renamed as their licences ask of changed versions. The licence texts beside the subsets are
not touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from auditor.drawing.lettering import CHARACTERS, Face

FOLDER = Path(__file__).parents[1] / "auditor" / "data" / "fonts"
NAMES: dict[Face, str] = {
    "chinese": "Auditor Sans SC",
    "latin": "Auditor Sans",
    "mono": "Auditor Mono",
}
FAMILY, STYLE, UNIQUE, FULL, POSTSCRIPT, TRADEMARK = 1, 2, 3, 4, 6, 7
KEPT = (0, STYLE, 5, 8, 9, 10, 11, 13, 14)  # copyright, version, makers, licence


def make(face: Face, source: Path) -> Path:
    """Write the subset of one font and return its path."""
    options = subset.Options(
        hinting=False,
        layout_features=[],
        name_IDs=list(KEPT),
        name_languages=[0x409],
        notdef_outline=True,
        recalc_timestamp=False,
    )
    font = TTFont(source, recalcTimestamp=False)
    worker = subset.Subsetter(options)
    worker.populate(text=CHARACTERS[face])
    worker.subset(font)
    name = NAMES[face]
    table = font["name"]
    for identity, text in {
        FAMILY: name,
        UNIQUE: f"{name}; subset of {source.stem}",
        FULL: f"{name} Bold",
        POSTSCRIPT: name.replace(" ", "") + "-Bold",
    }.items():
        table.setName(text, identity, 3, 1, 0x409)
    path = FOLDER / (name.lower().replace(" ", "-") + ".ttf")
    font.save(path)
    return path


def main() -> None:
    """Read the source paths from the command line and write the three subsets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for face in NAMES:
        parser.add_argument(f"--{face}", type=Path, required=True, help="full font, .ttf or .otf")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for face in NAMES:
        path = make(face, getattr(arguments, face))
        print(f"{path.name}: {path.stat().st_size} bytes, {len(CHARACTERS[face])} characters")


if __name__ == "__main__":
    main()
