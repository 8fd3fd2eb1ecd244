"""What is claimed of a finding, in a sentence that says no more than its grade."""

from __future__ import annotations

from auditor.core.estimates import Estimate
from auditor.record.codes import ON_PHOTOS
from auditor.record.schema import Evidence, Finding
from auditor.record.thresholds import PREVALENT
from auditor.report.notes import unit
from auditor.report.text import Name, estimate, number, probability

__all__ = ["claim"]


def claim(finding: Finding, class_name: Name, concept: Name) -> str:
    """What is claimed, by the test that the grade rests on."""
    evidence = finding.lead
    if finding.grade == "not_tested" or evidence is None:
        return f"Whether “{class_name}” relies on “{concept}” was not tested."
    if finding.grade == "suspected":
        return _suspicion(finding, evidence, class_name, concept)
    if evidence.test == "insertion":
        drawn = _drawn(evidence, class_name, concept)
        if finding.grade == "confirmed":
            return f"{drawn}."
        return f"{drawn}; but {', and '.join(_reserves(finding, evidence))}."
    if finding.grade == "confirmed":
        return (
            f"In an experiment on photos, “{concept}” changed the answer “{class_name}” by "
            f"{_size(evidence.effect)}{_against(evidence, 'its matched control by')}."
        )
    if evidence.test == "surroundings":
        return (
            f"The surroundings of photos that show “{concept}”, put around objects of other "
            f"classes, lean towards “{class_name}”: {_measured(evidence)}. What else these "
            "surroundings have in common is not told apart from it."
        )
    return (
        f"Photos of other classes that show “{concept}” lean towards “{class_name}”: "
        f"{_measured(evidence)}. No experiment has shown a cause."
    )


def _reserves(finding: Finding, evidence: Evidence) -> list[str]:
    """Why an experiment corroborates and does not confirm."""
    tested = {each.test: each for each in finding.evidence}
    reserves = []
    if evidence.control is not None and evidence.effect.low <= evidence.control.high:
        reserves.append("the intervals overlap: part of it may be any mark in that place")
    if "prevalence" in tested and tested["prevalence"].effect.low < PREVALENT:
        score = tested.get("naming")
        reserves.append(
            "that photos of the class show it more often than others is not sure (its score "
            f"has p {probability(None if score is None else score.p)})"
        )
    return reserves or ["this is less than a confirmation asks for"]


def _suspicion(finding: Finding, evidence: Evidence, class_name: Name, concept: Name) -> str:
    """What is claimed where no test on photos convicts; a test that speaks for it is told."""
    shown = next((e.effect for e in finding.evidence if e.test == "prevalence"), None)
    if evidence.test == "insertion":
        common = shown is not None and shown.value >= PREVALENT
        return f"{_drawn(evidence, class_name, concept)}; but " + (
            "that photos of the class show it more often than others is not sure enough."
            if common
            else "photos of the class are not known to show it: it may look like the "
            "class, or hide what speaks for the true one."
        )
    if evidence.test == "association":
        return (
            f"Photos of other classes that show “{concept}” lean towards “{class_name}”: "
            f"{_measured(evidence)}; but {_held_back(finding)}."
        )
    on_photos = any(e.test in ON_PHOTOS for e in finding.evidence)
    return (
        f"Prototypes, weights and photos of “{class_name}” point to “{concept}”: "
        f"{_measured(evidence)}. "
        + (
            "Tests on photos of other classes have not borne it out."
            if on_photos
            else "It was not tested on photos of other classes."
        )
    )


def _held_back(finding: Finding) -> str:
    """Why an association convicts nobody."""
    beside = {evidence.test: evidence.effect for evidence in finding.evidence}
    seen, around = beside.get("prevalence"), beside.get("surroundings")
    if seen is None:
        why = "whether photos of the class show it is not known"
    elif seen.value < PREVALENT:
        why = f"photos of the class hardly show it more often than others: {estimate(seen)}"
    else:
        why = "the tests beside it do not bear it out far enough"
    if around is not None and around.low <= 0:
        why += f"; surroundings that show it, put around other objects, do {estimate(around)}"
    return why


def _drawn(evidence: Evidence, class_name: Name, concept: Name) -> str:
    """What drawing a concept did, and its control."""
    moves = "lowers" if evidence.effect.value < 0 else "raises"
    return (
        f"Drawn on photos of other classes, “{concept}” {moves} the probability of “{class_name}” "
        f"by {_size(evidence.effect)}"
        f"{_against(evidence, 'a matched edit without its meaning changes it by')}"
    )


def _size(effect: Estimate) -> str:
    """Size and interval of an effect whose direction the sentence already tells."""
    if effect.value >= 0:
        return estimate(effect)
    return f"{number(-effect.value)} ({number(-effect.high)} to {number(-effect.low)})"


def _measured(evidence: Evidence) -> str:
    sign = "+" if evidence.effect.value > 0 else ""
    q = probability(evidence.q)
    if evidence.q is not None:
        q = f"q {q if q.startswith('<') else '= ' + q}".replace(" ", "\u00a0")
    else:
        q = "q not computed"
    return f"{sign}{estimate(evidence.effect)} {unit(evidence.unit, running=True)}, {q}"


def _against(evidence: Evidence, words: str) -> str:
    return "" if evidence.control is None else f"; {words} {estimate(evidence.control)}"
