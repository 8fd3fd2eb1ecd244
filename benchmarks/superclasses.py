"""Groups of ImageNet classes with everyday names, and which photos of them a plan uses for what.

ImageNet's single classes have too few photos in DATA to learn from; related ones together have
enough. A photo that stands for its surroundings (`GROUNDS`) belongs to no group. Of the two folders
of photos, `imagenet-ccby` taught the offline probe what photos look like, so it is used to train
heads; audited photos and pools come from `imagenet-extra` (and `coco-mini`) as far as it has any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["GROUNDS", "SUPERCLASSES", "Split", "split"]

CAP = 10  # photos of an ImageNet class in a group: ten classes have over 50, and would be the group
AUDITED = (10, 40)  # photos of a group, at least and at most; a third of what there is in between
POOL = 900


def _indices(*parts: int | tuple[int, int]) -> tuple[int, ...]:
    """Single indices, and ranges from the first to the last."""
    listed = [range(p, p + 1) if isinstance(p, int) else range(p[0], p[1] + 1) for p in parts]
    return tuple(index for part in listed for index in part)


SUPERCLASSES: Mapping[str, tuple[int, ...]] = {
    "fish": _indices((0, 6), (389, 397)),
    "small birds": _indices((10, 20), 92, 94, 95),
    "land birds": _indices((7, 9), (21, 24), (80, 91), 93, 96, 138),
    "wading birds": _indices((127, 134), (139, 143)),
    "swimming birds": _indices((97, 100), (135, 137), (144, 146)),
    "lizards and crocodiles": _indices((38, 51)),
    "snakes": _indices((52, 68)),
    "sea creatures": _indices(107, 108, (110, 126), (327, 329)),
    "beetles": _indices((300, 307)),
    "insects": _indices((308, 320)),
    "butterflies": _indices((321, 326)),
    "monkeys": _indices((365, 384)),
    "cats": _indices((281, 293)),
    "small mammals": _indices(298, 299, (330, 338), (356, 362)),
    "hoofed animals": _indices((339, 355)),
    "hounds": _indices((159, 178)),
    "terriers": _indices((179, 204)),
    "spaniels and retrievers": _indices((205, 221)),
    "working dogs": _indices((222, 268)),
    "aircraft": _indices(404, 405, 417, 701, 812, 895, 908),
    "boats": _indices(
        403, 472, 484, 510, 554, 576, 625, 628, 694, 724, 780, 814, 833, 871, 913, 914
    ),
    "cars": _indices(436, 468, 511, 609, 627, 656, 661, 717, 751, 817),
    "car parts": _indices(475, 479, 535, 581, 685, 686, 785),
    "trucks and buses": _indices(407, 555, 569, 654, 675, 734, 779, 803, 864, 867, 874),
    "trains": _indices(466, 547, 565, 705, 820, 829),
    "small vehicles": _indices(444, 573, 575, 665, 670, 671, 802, 870, 880),
    "churches and temples": _indices(406, 442, 497, 538, 663, 668, 832),
    "monuments and castles": _indices(483, 500, 649, 682, 698, 863, 873),
    "bridges and piers": _indices(460, 525, 718, 821, 839, 888),
    "houses and huts": _indices(425, 448, 449, 580, 634, 660, 672, 853, 858, 915),
    "shops and restaurants": _indices(
        415, 424, 454, 467, 498, 509, 582, 624, 762, 788, 860, 865
    ),
    "fences and walls": _indices(421, 489, 716, 825, 912),
    "furniture": _indices(
        423, 431, 453, 493, 495, 516, 520, 526, 532, 548, 559, 564, 619, 703, 736, 765, 831, 846,
        857, 894,
    ),
    "household appliances": _indices(
        534, 545, 550, 589, 606, 651, 760, 766, 811, 827, 859, 882, 897
    ),
    "bottles and glasses": _indices(440, 441, 455, 503, 572, 737, 898, 899, 901, 907),
    "pots and bowls": _indices(
        469, 504, 505, 521, 544, 567, 618, 647, 659, 666, 725, 738, 773, 809, 813, 828, 849, 883,
        909, 910, 923, 968,
    ),
    "electronic devices": _indices(
        482, 485, 487, 508, 527, 528, 590, 592, 605, 613, 620, 632, 650, 662, 664, 673, 681, 688,
        713, 732, 742, 745, 754, 759, 761, 782, 848, 851,
    ),
    "musical instruments": _indices(
        401, 402, 420, 432, 486, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641, 642, 683, 684,
        687, 699, 776, 822, 875, 881, 889,
    ),
    "balls": _indices(429, 430, 522, 574, 722, 768, 805, 852, 890),
    "sports equipment": _indices(416, 422, 543, 602, 702, 746, 747, 752, 795),
    "weapons": _indices(413, 456, 461, 471, 524, 597, 657, 744, 763, 764, 777, 787),
    "tools": _indices(
        462, 473, 477, 491, 507, 512, 587, 596, 621, 633, 677, 695, 714, 731, 740, 783, 784, 792
    ),
    "hats and helmets": _indices(433, 439, 452, 515, 518, 560, 667, 715, 793, 796, 808),
    "clothes": _indices(
        399, 400, 411, 445, 451, 457, 459, 465, 474, 501, 552, 568, 578, 601, 608, 610, 614, 617,
        638, 639, 652, 655, 689, 697, 735, 775, 834, 841, 842, 869, 887, 906,
    ),
    "shoes and bags": _indices(414, 502, 514, 630, 636, 728, 748, 770, 774, 797, 806, 893),
    "toiletries and bandages": _indices(419, 551, 585, 629, 631, 678, 711, 720, 804, 838),
    "street furniture": _indices(412, 480, 557, 571, 637, 640, 704, 707, 733, 877, 919, 920),
    "fruit and vegetables": _indices((936, 957)),
    "plants": _indices((984, 990), 998),
    "food": _indices((924, 935), (959, 967), 969),
    "printed matter": _indices(549, 611, 692, (916, 918), 921, 922),
    "stationery": _indices(418, 446, 563, 623, 696, 709, 710, 749, 767, 769),
    "boxes and barrels": _indices(427, 463, 478, 492, 519, 588, 653, 756, 771, 790, 791, 868, 876),
    "textiles": _indices(434, 533, 539, 591, 669, 721, 741, 750, 794, 854, 885, 904, 905, 911),
}  # fmt: skip
"""Everyday name -> indices of ImageNet (ILSVRC 2012) classes."""

GROUNDS: Mapping[str, tuple[int, ...]] = {
    "mountains": (970, 972, 979),  # alp, cliff, valley
    "seashore": (976, 977, 978),  # promontory, sandbar, seashore
    "coral reef": (109, 973, 983),  # brain coral, coral reef, scuba diver
}
"""Photographic background -> indices of the ImageNet classes whose photos show it."""

# Landscapes as well, but too mixed to stand for one: geysers, lakesides, volcanoes (lava, smoke).
_APART = {974, 975, 980} | {index for indices in GROUNDS.values() for index in indices}


@dataclass(frozen=True)
class Split:
    """Photos of a plan, no photo twice.

    Attributes:
        train, audited: of each class.
        pool: photos of no class of the plan, as far as there are enough.
        grounds: of each photographic background, those for training and those for the rest.
    """

    train: tuple[tuple[Path, ...], ...]
    audited: tuple[tuple[Path, ...], ...]
    pool: tuple[Path, ...]
    grounds: Mapping[str, tuple[tuple[Path, ...], tuple[Path, ...]]]


def split(data: Path, classes: Sequence[str], seed: int) -> Split:
    """Which photos of DATA are learned from, audited, searched, or stand around others.

    Args:
        data: holds `imagenet-ccby`, `imagenet-extra`, `coco-mini` and the class index.
        classes: names of `SUPERCLASSES`.
        seed: decides the split.
    """
    rng = np.random.default_rng([seed, 0x5B117])
    photos = _listed(data)

    def drawn(indices: Iterable[int]) -> list[Path]:
        """At most CAP photos of each ImageNet class, those of imagenet-extra first."""
        kept = [path for index in indices for path in _shuffled(rng, photos.get(index, []))[:CAP]]
        return sorted(_shuffled(rng, kept), key=lambda path: "imagenet-extra" not in path.parts)

    train, audited = [], []
    for name in classes:
        own = drawn(SUPERCLASSES[name])
        count = int(np.clip(round(len(own) / 3), *AUDITED))
        audited.append(tuple(own[:count]))
        train.append(tuple(own[count:]))
    grounds = {}
    for name, indices in GROUNDS.items():
        own = _shuffled(rng, [path for index in indices for path in photos.get(index, [])])
        grounds[name] = (tuple(own[::2]), tuple(own[1::2]))
    members = {index for name in classes for index in SUPERCLASSES[name]}
    used = {path for part in (*train, *audited) for path in part}
    coco = sorted((data / "coco-mini" / "images").glob("*.jpg"))
    others = drawn(sorted(set(photos) - members - _APART))
    first = [path for path in others if "imagenet-extra" in path.parts]
    rest = [path for path in others if "imagenet-extra" not in path.parts]
    spare = [path for path in drawn(sorted(members)) if path not in used]
    ordered = [*_shuffled(rng, [*first, *coco]), *rest, *spare]
    return Split(tuple(train), tuple(audited), tuple(ordered[:POOL]), grounds)


def _listed(data: Path) -> dict[int, list[Path]]:
    """ImageNet index -> its photos in both folders."""
    rows = json.loads((data / "imagenet_class_index.json").read_text(encoding="utf-8"))
    index = {row["wnid"]: int(row["index"]) for row in rows}
    found: dict[int, list[Path]] = {}
    for folder in ("imagenet-extra", "imagenet-ccby"):
        for path in sorted((data / folder).glob("*/*.jpg")):
            found.setdefault(index[path.parent.name], []).append(path)
    return found


def _shuffled(rng: np.random.Generator, paths: Sequence[Path]) -> list[Path]:
    return [paths[i] for i in rng.permutation(len(paths))]
