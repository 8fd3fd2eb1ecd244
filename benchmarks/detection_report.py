"""Tables and charts of the study of detection power, into `docs/notes/detection.md`.

    python -m benchmarks.detection_report --cache CACHE --docs docs/notes

Reads the JSON lines that `benchmarks.detection` and `benchmarks.planting` left in CACHE and
replaces what stands between the two marks in `docs/notes/detection.md`; the words around them are
written by hand.
Shares carry 95 % Wilson intervals; where a second interval stands, it is a bootstrap over
classifiers, since the shortcuts of one are not independent. Numbers per classifier carry exact
Poisson intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from auditor.concepts import banks
from auditor.core.estimates import Estimate
from auditor.core.statistics import poisson_rate, proportion
from auditor.lab.plans import accepted
from auditor.lab.scoring import GRADES, reaches
from auditor.record.schema import Grade
from benchmarks.studies import kept

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
BASELINES = {
    "rank": "**combined score**",
    "head": "channel `head`",
    "bridge": "channel `bridge`",
    "association": "association on photos alone (channel `association`)",
    "prevalence": "how much more the class's photos show it (channel `prevalence`)",
    "direct": "the probe on the prototypes (channel `direct`)",
    "class name": "similarity of the concept's text to the class's name",
    "mistakes": "mistakes less correct photos (after B2T)",
}
CLEAN = {
    "ordinary": "Clean classifiers, trained from their photos and audited on photos without a bias",
    "biased": "Clean classifiers, audited on photos that carry shortcuts which they never learned",
    "frozen": "Clean heads on a frozen trunk, which is also the probe's",
}
Row = dict[str, Any]
COLOURS = ("#0072B2", "#E69F00", "#009E73")


def pairs(results: Iterable[Row], *, learned: bool = True) -> list[Row]:
    """Planted pairs with what their classifier is, and their ranks by the baselines."""
    found = []
    for row in results:
        outcome = row["outcome"]
        for pair, base in zip(outcome["pairs"], row["baselines"], strict=True):
            if pair["learned"] or not learned:
                more = {"job": row["job"], "architecture": outcome["architecture"]}
                found.append({**pair, **more, "baselines": base})
    return found


def first(pair: Row, places: int) -> bool:
    return pair["rank"] is not None and pair["rank"] <= places


def found(pair: Row, grade: str) -> bool:
    return reaches(pair["alike"], grade)  # type: ignore[arg-type]


MEASURES: dict[str, Callable[[Row], bool]] = {
    "hit at 1": lambda pair: first(pair, 1),
    "hit at 3": lambda pair: first(pair, 3),
    "named, corroborated or stronger": lambda pair: reaches(pair["grade"], "corroborated"),
    "found, corroborated or stronger": lambda pair: found(pair, "corroborated"),
    "found, confirmed": lambda pair: found(pair, "confirmed"),
}
CHARTED = ("hit at 1", "hit at 3", "found, corroborated or stronger")


def share(listed: Sequence[Row], holds: Callable[[Row], bool]) -> Estimate | None:
    return proportion(sum(map(holds, listed)), len(listed)) if listed else None


def told(value: Estimate | None) -> str:
    if value is None:
        return "-"
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f}, n {value.n})"


def over_models(listed: Sequence[Row], holds: Callable[[Row], bool]) -> str:
    """Bootstrap interval of a share over classifiers."""
    names = sorted({pair["job"] for pair in listed})
    if len(names) < 3:
        return "-"
    counts = np.array(
        [
            [
                sum(holds(pair) for pair in listed if pair["job"] == name),
                sum(pair["job"] == name for pair in listed),
            ]
            for name in names
        ],
        float,
    )
    drawn = np.random.default_rng(0).integers(0, len(names), (9999, len(names)))
    hits, n = counts[drawn].sum(1).T
    low, high = np.quantile(hits / n, [0.025, 0.975])
    return f"{low:.2f} to {high:.2f} over {len(names)} classifiers"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


def by(listed: Sequence[Row], key: Callable[[Row], str], title: str) -> str:
    groups: dict[str, list[Row]] = {}
    for pair in listed:
        groups.setdefault(key(pair), []).append(pair)
    head = [title, "learned", *MEASURES]
    body = []
    for name in sorted(groups, key=lambda name: (not name.startswith("below"), name)):
        members = groups[name]
        kept = [pair for pair in members if pair["learned"]]
        cells = [told(share(kept, holds)) for holds in MEASURES.values()]
        body.append([name, f"{len(kept)} of {len(members)}", *cells])
    return table(head, body)


def alarms(results: Sequence[Row], which: Callable[[Row], bool]) -> str:
    clean = [
        r for r in results if which(r) and not any(p["learned"] for p in r["outcome"]["pairs"])
    ]
    if not clean:
        return "None was run.\n"
    body = []
    for grade in GRADES:
        counts = [len(accused(r, grade)) for r in clean]
        hit = [len({a["class_index"] for a in accused(r, grade)}) for r in clean]
        classes = sum(r["outcome"]["classes"] for r in clean)
        body.append(
            [
                grade if grade == "confirmed" else f"{grade} or stronger",
                told(poisson_rate(sum(counts), len(clean))),
                told(proportion(sum(c > 0 for c in counts), len(clean))),
                told(proportion(sum(hit), classes)),
            ]
        )
    listed = [
        f"{alarm['concept']} ({alarm['grade']}, {r['job']})"
        for r in clean
        for alarm in r["outcome"]["alarms"]
        if reaches(alarm["grade"], "corroborated")
    ]
    head = ["grade", "false alarms per clean model", "clean models with one", "classes with one"]
    words = f"Corroborated or stronger: {'; '.join(listed) or 'none'}.\n"
    return table(head, body) + "\n" + words


def _kind(row: Row) -> str:
    """Of a clean classifier, a key of `CLEAN`."""
    if row["outcome"]["architecture"] == "frozen":
        return "frozen"
    return "biased" if "biased photos" in row["job"] else "ordinary"


def judged(results: Iterable[Row], grade: Grade) -> tuple[int, list[tuple[Row, Row]]]:
    """Of classifiers with shortcuts, how many findings of a grade are right, and the others."""
    planted = [r for r in results if any(p["learned"] for p in r["outcome"]["pairs"])]
    right = sum(sum(r["outcome"]["hits"][GRADES.index(grade) :]) for r in planted)
    return right, [(r, a) for r in planted for a in accused(r, grade)]


def accused(row: Row, grade: Grade) -> list[Row]:
    """Findings of a grade that no learned shortcut accounts for."""
    return [alarm for alarm in row["outcome"]["alarms"] if reaches(alarm["grade"], grade)]


def precision(results: Sequence[Row]) -> str:
    body = []
    for grade in GRADES:
        right, wrong = judged(results, grade)
        planted_there = sum(
            any(
                p["class_index"] == a["class_index"] and a["concept"] in accepted(p["concept"])
                for p in r["outcome"]["pairs"]
            )
            for r, a in wrong
        )
        same = sum(
            any(
                p["learned"] and p["class_index"] == a["class_index"] for p in r["outcome"]["pairs"]
            )
            for r, a in wrong
        )
        total = right + len(wrong)
        body.append(
            [
                grade if grade == "confirmed" else f"{grade} or stronger",
                *(
                    told(proportion(count, total) if total else None)
                    for count in (right, right + planted_there, right + same)
                ),
            ]
        )
    return table(
        [
            "grade",
            "findings that name what was learned",
            "that name what was planted, learned or not",
            "that are of a class that learned some shortcut",
        ],
        body,
    )


def calibration(results: Sequence[Row]) -> str:
    clean = [r for r in results if r["outcome"]["null_pairs"]]
    if not clean:
        return "No clean classifier was run.\n"
    n = sum(r["outcome"]["null_pairs"] for r in clean)
    below = sum(r["outcome"]["null_below"] for r in clean)
    significant = sum(r["outcome"]["null_significant"] for r in clean)
    shares = [r["outcome"]["null_below"] / r["outcome"]["null_pairs"] for r in clean]
    return (
        f"Of {n:,} pairs of class and extrinsic concept in {len(clean)} clean models, p is below "
        f"0.05 for {below / n:.3f} (between models {min(shares):.3f} to {max(shares):.3f}); "
        f"q is below 0.05 for {significant}.\n"
    )


def baselines(listed: Sequence[Row]) -> str:
    body = []
    for key, title in BASELINES.items():
        places = [p["rank"] if key == "rank" else p["baselines"][key] for p in listed]
        known = [place for place in places if place is not None]
        body.append(
            [
                title,
                told(proportion(sum(place <= 1 for place in known), len(listed))),
                told(proportion(sum(place <= 3 for place in known), len(listed))),
                f"{np.median([np.inf if p is None else p for p in places]):.0f}",
            ]
        )
    one = np.mean([len(accepted(p["concept"])) / p["candidates"] for p in listed])
    body.append(["chance", f"{one:.3f}", f"{3 * one:.3f}", f"{1 / one / 2:.0f}"])
    return table(["score", "hit at 1", "hit at 3", "median place"], body)


def chart(title: str, groups: dict[str, list[Row]]) -> str:
    """Shares with intervals as an SVG: one line for each group and measure."""
    measures = [(m, MEASURES[m]) for m in CHARTED]
    names = [name for name, members in groups.items() if members]
    left, right, step = 190, 300, 14
    height = 46 + len(names) * (step * len(measures) + 10) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{height}" '
        f'viewBox="0 0 640 {height}" font-family="sans-serif" font-size="11" role="img">',
        f"<title>{title}</title>",
        f'<rect width="640" height="{height}" fill="#ffffff"/>',
    ]
    for k, (measure, _) in enumerate(measures):
        x = 12 + 200 * k
        parts.append(f'<circle cx="{x}" cy="14" r="4" fill="{COLOURS[k]}"/>')
        parts.append(f'<text x="{x + 8}" y="18">{measure}</text>')
    y = 40.0
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + right * tick
        parts.append(f'<path d="M{x} 30V{height - 22}" stroke="#dcdad5"/>')
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for name in names:
        members = groups[name]
        parts.append(f'<text x="8" y="{y + step + 3}">{name} (n {len(members)})</text>')
        for k, (_, holds) in enumerate(measures):
            value = share(members, holds)
            assert value is not None
            low, middle, high = (left + right * v for v in (value.low, value.value, value.high))
            at = y + 4 + step * k
            parts.append(
                f'<path d="M{low:.1f} {at:.1f}H{high:.1f}" stroke="{COLOURS[k]}" stroke-width="2"/>'
            )
            parts.append(f'<circle cx="{middle:.1f}" cy="{at:.1f}" r="4" fill="{COLOURS[k]}"/>')
            words = f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
            parts.append(f'<text x="{left + right + 12}" y="{at + 4:.1f}">{words}</text>')
        y += step * len(measures) + 10
    return "\n".join([*parts, "</svg>", ""])


def _bin(value: float | None, edges: tuple[float, float]) -> str:
    """The third of a range that a value lies in."""
    low, high = edges
    if value is None:
        return "not known"
    if value < low:
        return f"below {low:g}"
    return f"{low:g} to {high:g}" if value < high else f"{high:g} and more"


def section(title: str, results: Sequence[Row]) -> str:
    every = pairs(results, learned=False)
    goal = [p for p in every if p["strength"] == 0.95 and p["learned"]]
    text = [f"### {title}\n", f"{len(results)} classifiers, {len(every)} planted shortcuts, "
            f"{sum(p['learned'] for p in every)} of them learned.\n"]  # fmt: skip
    text.append(
        table(
            ["learned shortcuts of strength 0.95", "share", "bootstrap over classifiers"],
            [[n, told(share(goal, f)), over_models(goal, f)] for n, f in MEASURES.items()],
        )
    )
    text.append("The same by where the families come from:\n")
    text.append(by(goal, lambda p: p["job"].split(",", 1)[0], "families"))
    text.append("By family, all strengths and architectures:\n")
    text.append(by(every, lambda p: p["family"], "family"))
    text.append("By strength, small residual network:\n")
    text.append(
        by(
            [p for p in every if p["architecture"] == "residual"],
            lambda p: f"{p['strength']:g}",
            "strength",
        )
    )
    strengths = [p["strength"] for p in every if p["learned"] and found(p, "corroborated")]
    least = [p["strength"] for p in every if p["learned"]]
    if strengths:
        text.append(
            f"The weakest shortcut that was learned has strength {min(least):g}, the weakest that "
            f"was found (corroborated or stronger) {min(strengths):g}.\n"
        )
    text.append("By kind of classifier, all strengths:\n")
    text.append(by(every, lambda p: p["job"].split(", ", 1)[1].rstrip("0123456789 "), "classifier"))
    text.append(
        "By how well the probe recognises the concept on the pool's photos (area under the ROC "
        "curve against what they truly show), all strengths:\n"
    )
    text.append(by(every, lambda p: _bin(p["baselines"].get("probe"), (0.75, 0.9)), "area"))
    text.append(
        "By how far the shortcut raises the probability of its class, by experiment, all "
        "strengths:\n"
    )
    text.append(
        by([p for p in every if p["learned"]], lambda p: _bin(p["effect"]["value"], (0.1, 0.3)),
           "effect")
    )  # fmt: skip
    text.append("Baselines, learned shortcuts of strength 0.95, the same candidates for all:\n")
    text.append(baselines(goal))
    text.append("Findings of classifiers with shortcuts:\n")
    text.append(precision(results))
    for kind, words in CLEAN.items():
        text.append(f"{words}:\n")
        text.append(alarms(results, lambda r, kind=kind: _kind(r) == kind))
    text.append(calibration(results))
    return "\n".join(text)


def compared(studies: dict[str, Sequence[Row]]) -> str:
    """The same classifiers with more and fewer photos, and without a pool."""
    counts: dict[str, list[str]] = {}
    drawn = {c.name for c in banks.load(None).concepts if c.drawing is not None}
    for results in studies.values():
        goal = [p for p in pairs(results) if p["strength"] == 0.95]
        for name, holds in MEASURES.items():
            counts.setdefault(name, []).append(told(share(goal, holds)))
        for words, by_code in (("that code draws", True), ("that no code draws", False)):
            own = [p for p in goal if bool(drawn & set(accepted(p["concept"]))) == by_code]
            counts.setdefault(f"found, corroborated or stronger, of concepts {words}", []).append(
                told(share(own, lambda p: found(p, "corroborated")))
            )
        right, wrong = judged(results, "corroborated")
        counts.setdefault(
            "findings, corroborated or stronger, that name what was learned", []
        ).append(told(proportion(right, right + len(wrong))))
        null = [r for r in results if r["outcome"]["null_pairs"]]
        for kind, words in CLEAN.items():
            clean = [r for r in null if _kind(r) == kind]
            n = sum(len(accused(r, "corroborated")) for r in clean)
            counts.setdefault(f"false alarms, corroborated or stronger. {words}", []).append(
                f"{n} on {len(clean)}"
            )
        below = sum(r["outcome"]["null_below"] for r in null)
        share_below = below / sum(r["outcome"]["null_pairs"] for r in null)
        counts.setdefault("null pairs with p below 0.05", []).append(f"{share_below:.3f}")
    return table(["strength 0.95, learned", *studies], [[k, *v] for k, v in counts.items()])


def on_photos(results: Sequence[Row]) -> str:
    """Shortcuts planted in real photos, by `benchmarks.planting`.

    What is reported beyond them is no false alarm: real photos have shortcuts of their own.
    """
    text = ["### Real photos\n"]
    for half in ("held-out", "development"):
        planted = [r for r in results if r["half"] == half and r["outcome"]["pairs"]]
        if not planted:
            continue
        every = pairs(planted, learned=False)
        accuracy = [r["accuracy"]["value"] for r in planted]
        text += [
            f"{half.capitalize()} half: {len(planted)} classifiers (accuracy on photos without a "
            f"planted concept {min(accuracy):.2f} to {max(accuracy):.2f}), {len(every)} planted "
            f"shortcuts, {sum(p['learned'] for p in every)} of them learned.\n",
            by(every, lambda p: p["architecture"], "trunk"),
            table(
                ["planted", "trunk", "effect", "place", "grade", "area of the probe"],
                [
                    [
                        p["concept"],
                        p["architecture"],
                        f"{p['effect']['value']:.2f}" + ("" if p["learned"] else ", not learned"),
                        str(p["rank"]),
                        p["alike"] or "no finding",
                        f"{p['baselines']['probe']:.2f}",
                    ]
                    for p in every
                ],
            ),
            baselines([p for p in every if p["learned"]]),
        ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("out/detection"))
    parser.add_argument("--docs", type=Path, default=Path("docs/notes"))
    parser.add_argument("--label", default="study")
    given = parser.parse_args()
    halves = {
        half: kept(given.cache / f"{given.label}-{half}.jsonl")
        for half in ("held-out", "development")
    }
    text = []
    for title, half in (
        ("Held-out half: no method was chosen by its classifiers", "held-out"),
        ("Development half", "development"),
    ):
        if not halves[half]:
            continue
        text.append(section(title, halves[half]))
        listed = [p for p in pairs(halves[half]) if p["strength"] == 0.95]
        names = sorted({p["family"] for p in listed})
        groups = {name: [p for p in listed if p["family"] == name] for name in names}
        words = f"Detection by family, {half} half, strength 0.95"
        (given.docs / f"detection-{half}.svg").write_text(chart(words, groups))
    fewer = {
        title: rows
        for title, name in (
            ("40 photos", given.label),
            ("12 photos", "few"),
            ("40 photos, no pool of its own", "no-pool"),
        )
        if (rows := kept(given.cache / f"{name}-held-out.jsonl"))
    }
    if len(fewer) > 1:
        text.append("### Held-out half, with fewer photos and without a pool\n\n" + compared(fewer))
    photos = kept(given.cache / f"{given.label}-photos.jsonl")
    if photos:
        text.append(on_photos(photos))
    page = given.docs / "detection.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + "\n\n" + "\n".join(text) + "\n" + END + after)


if __name__ == "__main__":
    main()
