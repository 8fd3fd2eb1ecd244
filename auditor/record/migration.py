"""Records of older major versions as records of this one: a function for each step.

Schema 1 told in English what schema 2 tells in codes. Here its sentences become codes again; one
that is not recognised, as earlier programs worded some differently, stays as the code `text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.record.codes import (
    CAVEATS,
    MATERIALS,
    ON_PHOTOS,
    REASONS,
    VERDICT_REASONS,
    GapCode,
    Meaning,
    ParamKind,
    Unit,
)
from auditor.record.thresholds import PREVALENT

__all__ = ["MigrationError", "migrated"]

Plain = dict[str, Any]
Patterns = Sequence[tuple[str, str]]

NUMBER = r"[\d.e+-]+"
CHANCE = rf"p\(.*\) = (?P<probability>{NUMBER})"
HIDES = "drawing it may raise the class only because it hides what speaks for the true one"

CAVEAT_PATTERNS: Patterns = (
    ("not_told_apart", r"Not told apart from: (?P<concepts>.+?)(?: and \d+ more)?\."),
    ("explains", r"Photos of the class show no more of these than it lets expect: "
     r"(?P<concepts>.+)\."),
    ("probe_quality_unknown", r"How well the probe recognises this concept is not known\."),
    ("probe_weak", rf"The probe recognises this concept poorly \(AUC (?P<auc>{NUMBER})\)\."),
    ("not_drawn", r"Not drawn on photos: (?P<photos>\d+) show another class, (?P<needed>\d+) are "
     r"needed\."),
    ("not_associated", r"Not tested on photos of other classes: too few of them show the "
     r"concept\."),
    ("prevalence_without_pool", r"For want of a pool, prevalence counts only what exceeds photos "
     r"of other classes by a quarter of what drawing it changes: the class's own object may do as "
     r"much\."),
    ("prevalence_unknown", rf"Whether photos of the class show it is not known(?P<hides>: {HIDES})?"
     r"\."),
    ("prevalence_low", r"Photos of the class hardly show it more often than others: "
     rf"(?:(?P<hides>{HIDES})|the model may take it for the class's own object)\."),
    ("prevalence_unsure", r"That photos of the class show it more often than others is not sure "
     rf"\((?P<low>{NUMBER}) at least on (?P<photos>\d+) photos, (?P<asked>{NUMBER}) is asked for; "
     r"more photos would tell\): drawing it (?:(?P<convicts>confirms nothing)|convicts nobody by "
     r"itself)\."),
    ("prototypes_unlike_photos", r"The prototypes run through the model unlike photos of the class "
     rf"\(class-specific similarity (?P<similarity>{NUMBER}), photos 1\.00\)\."),
    ("channels_against", r"Channels that speak against it: (?P<channels>.+)\."),
)  # fmt: skip
REASON_PATTERNS: Patterns = (
    ("few_pool_photos", r"(?P<photos>\d+) of (?P<pool>\d+) pool photos show it by the probe, "
     r"(?P<needed>\d+) are needed"),
    ("few_examples", r"(?P<photos>\d+) example photos, (?P<needed>\d+) are needed"),
    ("few_photos", r"(?:not tested: )?(?P<photos>\d+) photos, at least (?P<needed>\d+) are needed"),
    ("few_other_photos", r"not tested: (?P<photos>\d+) photos of other classes"),
    ("no_prototype", r"not tested: no prototype"),
    ("all_layers_held", r"not tested: prototypes were held to photos in every layer"),
    ("photos_unalike", r"the photos of the class do not resemble each other more than photos of "
     r"other classes in any layer"),
    ("few_classes", r"not tested: (?P<classes>\d+) classes have prototypes and photos, "
     r"(?P<needed>\d+) are needed"),
    ("not_correlated", r"(?P<classes>\d+) classes with both, or no variation"),
    ("few_photos_of_each", r"(?P<own>\d+) photos of the class and (?P<others>\d+) of others, "
     r"(?P<needed>\d+) of each are needed"),
    ("few_photos_to_draw_on", r"(?P<photos>\d+) of the photos that are drawn on show another "
     r"class, (?P<needed>\d+) are needed"),
    ("few_pool_photos_of_others", r"(?P<concepts>\d+) fewer than (?P<needed>\d+) pool photos of "
     r"other classes show them: they cannot be told from the class \(give --pool other photos\)"),
    ("beyond_first_groups", r"(?P<concepts>\d+) only the first (?P<groups>\d+) groups of a class "
     r"are put to the test: (?P<named>.+?)(?: and others)?"),
    ("shared_photos", r"(?P<photos>\d+) audited photos are also in the pool: .+"),
    ("not_representative", r"the photos are said to be unlike those that the model learned from "
     r"\(--no-representative\)"),
    ("no_second_model", r"no second model was given \(--second-model\)"),
)  # fmt: skip
MATERIAL_PATTERNS: Patterns = (
    ("model_alone", r"the model alone"),
    ("patched_photos", r"the model, and (?P<photos>\d+) photos of the pool that patches were put "
     r"on"),
    ("collages", r"(?P<collages>\d+) collages of seven sample photos and drawn scenes"
     r"(?P<batch_norm> and what batch normalisation recorded in training)?"),
    ("pool_and_copied_photos", r"(?P<photos>\d+) photos of the pool, a class's own left out of its "
     r"fit where known; and (?P<copied>\d+) photos of the audited classes, whose activations were "
     r"copied"),
    ("pool_photos", r"(?P<photos>\d+) photos of the pool, a class's own left out of its fit where "
     r"known"),
)  # fmt: skip
VERDICT_PATTERNS: Patterns = (("no_criteria", r"No acceptance criteria were set for this audit\."),)
CLASS_GAPS: Sequence[tuple[GapCode, str]] = (
    ("divergence", r"divergence of (?P<name>.*)"),
    ("prevalence", r"prevalence of concepts in photos of (?P<name>.*)"),
    ("insertion", r"drawn concepts by experiment on (?P<name>.*)"),
    ("concepts_standing_out",
     r"(?P<concepts>\d+) concepts that stand out of the null for (?P<name>.*)"),
    ("concepts_of_class", r"(?P<concepts>\d+) concepts of (?P<name>.*)"),
)  # fmt: skip
STAGE_GAPS: Mapping[str, GapCode] = {
    "an independent pool": "independent_pool",
    "whether each class's photos show a concept more than others (prevalence)": "prevalence",
    "whether prototypes can be told from photos": "told_apart",
    "transfer of prototypes to a second model": "transfer",
}
SMALLEST = (
    rf"by the score alone, (?P<score>{NUMBER}) standard deviations of random concepts "
    rf"\(q < (?P<q>{NUMBER}) among (?P<pairs>[\d,]+) pairs\); .+",
    rf"none by the score alone: (?P<random>\d+) random scores cannot give q < (?P<q>{NUMBER}) "
    r"among (?P<pairs>[\d,]+) pairs; .+",
)
UNITS: Mapping[str, Unit] = {
    "standard deviations of the null": "null_sd",
    "log-odds of the class": "log_odds",
    "probability of the class": "probability",
    "area under the ROC curve": "auc",
}
CAPTIONS: Mapping[str, str] = {
    "prototype": r"(?:Prototype of )?(?P<owner>.*)",
    "photo": r"(?P<owner>.*)",
    "plain": rf"Median of (?P<alike>\d+) of (?P<photos>\d+) photos that go this way: {CHANCE}",
    "edited": rf".* drawn: {CHANCE}",
    "control": rf"Control edit: {CHANCE}",
    "surrounded": rf"Around (?P<owner>.*): {CHANCE}",
    "unsurrounded": rf"Around (?P<owner>.*): {CHANCE}",
    "with": rf"Another class, .* by the probe: {CHANCE}",
    "without": rf"Another class, no sign of .*: {CHANCE}",
}


class MigrationError(ValueError):
    """An older record that does not have the form of its version."""


def migrated(data: Plain) -> Plain:
    """A record of an older major version in the form of this one.

    Raises:
        MigrationError: it does not have the form of its version.
    """
    version = data["schema_version"]
    try:
        return _from_1(data)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise MigrationError(
            f"it does not have the form of schema version {version} "
            f"({type(error).__name__}: {error!s:.80})"
        ) from None


def _from_1(data: Plain) -> Plain:
    """Schema 1 to 2: sentences become codes, captions numbers, and each class counts its scores."""
    indices = _Indices(data["classes"])
    coverage = {"remarks": [], **data["coverage"]}
    told = coverage["smallest_effect"]
    coverage["smallest_effect"] = _smallest(told, data) if told else None
    coverage["remarks"] = [*coverage["remarks"], _remark(data, coverage["smallest_effect"])]
    coverage["not_tested"] = [_gap(gap, indices) for gap in coverage["not_tested"]]
    intrinsic = {concept["name"] for concept in data["concepts"] if not concept["extrinsic"]}
    done = {
        **data,
        "schema_version": "2.0",
        "verdict": {**data["verdict"], "reasons": [
            _note(text, VERDICT_PATTERNS, VERDICT_REASONS)
            for text in data["verdict"]["reasons"] if text.strip()
        ]},
        "coverage": coverage,
        "divergence_and_harm": _with_reason(data["divergence_and_harm"]),
        "concepts": [_with_reason(concept) for concept in data["concepts"]],
        "classes": [_class(c, intrinsic) for c in data["classes"]],
        "clusters": [
            {**c, "pictures": [_picture(p, None, indices) for p in c["pictures"]]}
            for c in data["clusters"]
        ],
        "findings": [_finding(f, indices) for f in data["findings"]],
    }  # fmt: skip
    made = data.get("prototyping")
    if made is not None:
        used = _note(made["used"], MATERIAL_PATTERNS, MATERIALS)
        done["prototyping"] = {**made, "used": used}
    return done


class _Indices:
    """Indices of classes by name, for names that stand once."""

    def __init__(self, classes: Sequence[Plain]) -> None:
        names = Counter(c["name"] for c in classes)
        self._of = {c["name"]: c["index"] for c in classes if names[c["name"]] == 1}

    def get(self, name: str) -> int | None:
        """The index, or `None` where there is none or more than one."""
        return self._of.get(name)


def _note(text: str, patterns: Patterns, meanings: Mapping[Any, Meaning]) -> Plain:
    """A sentence as a code with its values."""
    for code, pattern in patterns:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found is not None:
            kinds = meanings[code].params
            return {
                "code": code,
                "params": {name: _value(found[name], kind) for name, kind in kinds.items()},
            }
    return {"code": "text", "params": {"text": text}}


def _value(text: str | None, kind: ParamKind) -> Any:
    if kind == "flag":
        return text is not None
    text = text or ""
    if kind == "count":
        return int(text.replace(",", ""))
    if kind == "number":
        return float(text)
    return text.split(", ") if kind == "texts" else text


def _reason(text: str) -> Plain:
    return _note(text, REASON_PATTERNS, REASONS)


def _with_reason(entry: Plain) -> Plain:
    text = entry["reason"]
    return {**entry, "reason": _reason(text) if text else None}


def _remark(data: Plain, smallest: Plain | None) -> Plain:
    """That the record is an older one, with what of it has no place in this version."""
    told = data["coverage"]["smallest_effect"]
    lost = f" The smallest effect that would have been found: {told}." if told else ""
    text = f"The record has schema version {data['schema_version']}, older than this program's."
    return {"code": "record_older", "text": text + (lost if smallest is None else "")}


def _smallest(text: str, data: Plain) -> Plain | None:
    for pattern in SMALLEST:
        found = re.fullmatch(pattern, text)
        if found is not None:
            values = found.groupdict()
            per_class = data["spec"].get("statistics", {}).get("permutations", 0)
            score = values.get("score")
            return {
                "score": None if score is None else float(score),
                "random_scores": int(values.get("random") or per_class * len(data["classes"])),
                "hypotheses": int(values["pairs"].replace(",", "")),
                "q_level": float(values["q"]),
            }
    return None


def _gap(gap: Plain, indices: _Indices) -> Plain:
    kind, what = gap["kind"], gap["what"]
    if kind == "concept":
        return {"what": "concept", "kind": kind, "concept": what, "reason": _reason(gap["reason"])}
    if kind == "stage" and what in STAGE_GAPS:
        return {"what": STAGE_GAPS[what], "kind": kind, "reason": _reason(gap["reason"])}
    for code, pattern in CLASS_GAPS if kind == "class" else ():
        found = re.fullmatch(pattern, what, re.DOTALL)
        index = indices.get(found["name"]) if found else None
        if found is not None and index is not None:
            count = found.groupdict().get("concepts")
            reason = _reason(f"{count} {gap['reason']}" if count else gap["reason"])
            if not count or reason["code"] != "text":
                return {"what": code, "kind": kind, "class_index": index, "reason": reason}
    reason = _reason(gap["reason"])
    reason["params"]["what"] = what
    return {"what": "text", "kind": kind, "reason": reason}


def _class(c: Plain, intrinsic: set[str]) -> Plain:
    possible = [
        s
        for s in c["concepts"]
        if s["q"] is not None and not s["core"] and s["concept"] not in intrinsic
    ]
    return {
        **c,
        "divergence": _with_reason(c["divergence"]),
        "n_concepts": len(c["concepts"]),
        "n_hypotheses": len(possible),
    }


def _finding(finding: Plain, indices: _Indices) -> Plain:
    alike = {"not_told_apart": finding.get("alike", []), "explains": finding.get("explains", [])}
    caveats = []
    for text in finding["caveats"]:
        note = _note(text, CAVEAT_PATTERNS, CAVEATS)
        names = alike.get(note["code"])
        if names and text.startswith(f"{text.partition(': ')[0]}: {', '.join(names[:4])}"):
            note["params"]["concepts"] = list(names)  # a name may have a comma; some are left out
        if text.strip():
            caveats.append(note)
    evidence = [{**e, "unit": UNITS.get(e["unit"], e["unit"])} for e in finding["evidence"]]
    drawn = any(picture["kind"] == "edited" for picture in finding["pictures"])
    return {
        **finding,
        "basis": _basis(finding["grade"], {e["test"]: e for e in evidence}),
        "evidence": evidence,
        "caveats": caveats,
        "pictures": [
            _picture(
                {**p, "kind": "plain"} if drawn and p["kind"] == "without" else p,
                finding["class_index"],
                indices,
            )
            for p in finding["pictures"]
        ],
    }


def _picture(picture: Plain, class_index: int | None, indices: _Indices) -> Plain:
    """A picture with the numbers of its caption, or with its caption where they are not all known.

    `class_index` is that of its finding.
    """
    told = re.fullmatch(CAPTIONS.get(picture["kind"], ""), picture["caption"], re.DOTALL)
    values = told.groupdict() if told else {}
    owner = indices.get(values["owner"]) if "owner" in values else None
    if told is None or ("owner" in values and owner is None):
        return picture
    done: Plain = {"file": picture["file"], "kind": picture["kind"], "owner": owner}
    if "probability" in values:
        done |= {"class_index": class_index, "probability": float(values["probability"])}
    for name in ("alike", "photos"):
        done[name] = int(values[name]) if name in values else None
    return done


def _basis(grade: str, tests: Mapping[str, Plain]) -> str | None:
    """The test that schema 1's report rested a claim on."""
    if grade == "not_tested" or not tests:
        return None
    there = [test for test in ON_PHOTOS if test in tests]
    speaking = [test for test in there if tests[test]["effect"]["low"] > 0]
    speaking = speaking or [test for test in there if tests[test]["effect"]["value"] > 0]
    if grade == "confirmed" and "insertion" in tests:
        return "insertion"
    if grade in ("confirmed", "corroborated") and speaking:
        return min(speaking, key=lambda test: _q(tests[test]))
    if grade != "suspected" or "naming" not in tests:
        return "naming" if "naming" in tests else next(iter(tests))
    shown = tests.get("prevalence")
    common = shown is not None and shown["effect"]["value"] >= PREVALENT
    drawn = tests.get("insertion")
    if drawn is not None and drawn["control"] is not None and drawn["effect"]["low"] > 0:
        effect, control = drawn["effect"], drawn["control"]
        if effect["value"] > control["value"] if common else effect["low"] > control["high"]:
            return "insertion"
    seen = tests.get("association")
    if seen is not None and seen["effect"]["low"] > 0 and (seen["q"] or 0) < _q(tests["naming"]):
        return "association"
    return "naming"


def _q(evidence: Plain) -> float:
    q = evidence["q"]
    return 1.0 if q is None else float(q)
