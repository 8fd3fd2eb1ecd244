"""How an audit of a lab classifier fared against what was planted in it.

Only shortcuts that the classifier learned, by experiment (`auditor.lab.training.learned`), are
there to be found; one that was not learned counts as absent, and whatever is reported of it as a
false alarm. A planted concept is *found* at a grade where a finding of its class names it, under a
name that `auditor.lab.plans.accepted` allows, or lists it among what the audit cannot tell from the
named one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.core.estimates import Estimate
from auditor.core.statistics import clustered_proportion, poisson_rate
from auditor.lab import plans
from auditor.lab.plans import Plan
from auditor.lab.training import LEARNED
from auditor.record import tables
from auditor.record.codes import FOUND, Grade, strength
from auditor.record.schema import Audit, ConceptScore, Finding, Planted, Rate

__all__ = ["GRADES", "Alarm", "Outcome", "Pair", "candidates", "rates", "score"]

GRADES = FOUND
"""From the weakest to the strongest."""


@dataclass(frozen=True)
class Pair:
    """A planted shortcut and what the audit made of it.

    `rank` counts the extrinsic concepts of the class that are not core, were tested and were not
    learned by it beside this one, of which there are `candidates`; `grade` is the strongest of a
    finding that names the concept, `alike` that of one that names or lists it.
    """

    class_index: int
    concept: str
    family: str
    strength: float
    effect: Estimate
    rank: int | None
    candidates: int
    p: float | None
    q: float | None
    grade: Grade | None
    alike: Grade | None

    @property
    def learned(self) -> bool:
        """Whether the classifier relies on it, by experiment."""
        return learned(self.effect)

    def found(self, grade: Grade) -> bool:
        """Whether a finding of this grade or a stronger one names or lists it."""
        return reaches(self.alike, grade)


@dataclass(frozen=True)
class Alarm:
    """A finding that no learned shortcut of its class accounts for."""

    class_index: int
    concept: str
    grade: Grade
    p: float | None
    q: float | None
    p_model: float | None


@dataclass(frozen=True)
class Outcome:
    """One audit of a lab classifier against its plan.

    Attributes:
        plan: its digest.
        seed, architecture, classes: of the plan.
        pairs: the planted shortcuts, learned or not.
        alarms: the findings that they don't account for.
        hits: for each grade of `GRADES`, findings that a learned shortcut accounts for.
        null_pairs: for a clean classifier, pairs of class and extrinsic concept with a p-value.
        null_below: of them, those with p below 0.05.
        null_significant: of them, those with q below the audit's level.
        seconds: that the audit took.
    """

    plan: str
    seed: int
    architecture: str
    classes: int
    pairs: tuple[Pair, ...]
    alarms: tuple[Alarm, ...]
    hits: tuple[int, ...]
    null_pairs: int
    null_below: int
    null_significant: int
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether there was nothing to find."""
        return not any(pair.learned for pair in self.pairs)


def learned(effect: Estimate | None) -> bool:
    """Whether the effect of a planted concept on its class shows that it was learned.

    >>> learned(Estimate(value=0.4, low=0.2, high=0.6, n=12))
    True
    """
    return effect is not None and effect.low > LEARNED


def reaches(grade: Grade | None, level: Grade) -> bool:
    """Whether a grade is this level or stronger.

    >>> reaches("confirmed", "corroborated"), reaches(None, "suspected")
    (True, False)
    """
    return strength(grade) >= strength(level)


def score(audit: Audit, plan: Plan) -> Outcome:
    """Hold a finished audit against the plan of its classifier.

    Every concept of every class counts, so that the table of scores in its run folder is read.

    Args:
        audit: of the plan's classifier, with `planted` as the lab wrote it.
        plan: what the classifier learned from.

    Raises:
        ValueError: the audit is not of a classifier with this plan's shortcuts.
        RunError: the table of scores is missing or another.
    """
    recorded = audit.planted or ()
    said = [(row.class_index, row.concept) for row in recorded]
    if said != [(s.class_index, s.concept) for s in plan.shortcuts]:
        raise ValueError(f"the audit knows the planted shortcuts {said}, the plan has others")
    extrinsic = {concept.name for concept in audit.concepts if concept.extrinsic}
    config = audit.settings()
    scored = tables.scores(Path(config.out), audit)
    pairs = tuple(_pair(row, candidates(row, audit, scored), audit.findings) for row in recorded)
    real = {p.class_index: set[str]() for p in pairs}
    for pair in pairs:
        if pair.learned:
            real[pair.class_index].update(plans.accepted(pair.concept))
    true: list[Finding] = []
    false: list[Finding] = []
    for finding in audit.findings:
        right = real.get(finding.class_index, set())
        (true if right & {finding.concept, *finding.alike} else false).append(finding)
    clean = not any(pair.learned for pair in pairs)
    null = [
        row
        for concepts in scored.values()
        for row in concepts
        if clean and row.p is not None and not row.core and row.concept in extrinsic
    ]
    level = config.statistics.q_level
    return Outcome(
        plan=plan.digest,
        seed=plan.seed,
        architecture=plan.architecture,
        classes=len(plan.classes),
        pairs=pairs,
        alarms=tuple(_alarm(f, audit) for f in false if f.grade in GRADES),
        hits=tuple(sum(f.grade == grade for f in true) for grade in GRADES),
        null_pairs=len(null),
        null_below=sum(row.p is not None and row.p < 0.05 for row in null),
        null_significant=sum(row.q is not None and row.q < level for row in null),
        seconds=round(sum(audit.provenance.seconds.values()), 1),
    )


def _alarm(finding: Finding, audit: Audit) -> Alarm:
    concepts = next(each for each in audit.classes if each.index == finding.class_index).concepts
    named = next(row for row in concepts if row.concept == finding.concept)
    return Alarm(
        finding.class_index, finding.concept, finding.grade, named.p, named.q, named.p_model
    )


def candidates(
    row: Planted, audit: Audit, scored: Mapping[int, Sequence[ConceptScore]]
) -> list[ConceptScore]:
    """The concepts of a planted concept's class among which it is ranked, best first.

    Args:
        row: the planted concept.
        audit: that ranked it.
        scored: by the class's index, every concept, best first.
    """
    extrinsic = {concept.name for concept in audit.concepts if concept.extrinsic}
    extrinsic -= _others(row, audit.planted or ())
    return [
        c
        for c in scored[row.class_index]
        if c.rank is not None and not c.core and c.concept in extrinsic
    ]


def _others(row: Planted, recorded: Sequence[Planted]) -> set[str]:
    """Names of what else the class learned: they are right, and take nobody's place."""
    names = {
        name
        for other in recorded
        if other.class_index == row.class_index
        and other.concept != row.concept
        and learned(other.learned)
        for name in plans.accepted(other.concept)
    }
    return names - set(plans.accepted(row.concept))


def _pair(row: Planted, ranked: Sequence[ConceptScore], findings: Sequence[Finding]) -> Pair:
    names = plans.accepted(row.concept)
    place = next((i for i, c in enumerate(ranked) if c.concept in names), None)
    own = [f for f in findings if f.class_index == row.class_index]
    effect = row.learned or Estimate(value=0, low=0, high=0, n=0)
    return Pair(
        class_index=row.class_index,
        concept=row.concept,
        family=plans.family(row.concept),
        strength=row.strength,
        effect=effect,
        rank=None if place is None else place + 1,
        candidates=len(ranked),
        p=None if place is None else ranked[place].p,
        q=None if place is None else ranked[place].q,
        grade=_strongest(f.grade for f in own if f.concept in names),
        alike=_strongest(f.grade for f in own if {f.concept, *f.alike} & set(names)),
    )


def _strongest(grades: Iterable[Grade]) -> Grade | None:
    known = [grade for grade in grades if grade in GRADES]
    return max(known, key=GRADES.index, default=None)


def rates(outcomes: Sequence[Outcome]) -> tuple[Rate, ...]:
    """Hit rates over learned shortcuts and false-alarm rates over clean models, with intervals.

    Shares carry Wilson intervals at the effective number of what comes in models
    (`statistics.clustered_proportion`), numbers per model exact Poisson ones. A rate without a
    case is left out.
    """
    clean = [outcome for outcome in outcomes if outcome.clean]
    planted = [outcome for outcome in outcomes if not outcome.clean]
    learned = [[pair for pair in outcome.pairs if pair.learned] for outcome in planted]
    found: list[Rate] = []

    def share(name: str, counts: Iterable[tuple[int, int]]) -> None:
        counts = list(counts)
        if sum(n for _, n in counts):
            found.append(Rate(name=name, rate=clustered_proportion(counts)))

    def alarms(outcome: Outcome, grade: Grade) -> list[Alarm]:
        return [alarm for alarm in outcome.alarms if reaches(alarm.grade, grade)]

    for places, words in ((1, "first"), (3, "among the first three")):
        share(
            f"planted concept {words} of its class's extrinsic concepts",
            [
                (sum(p.rank is not None and p.rank <= places for p in pairs), len(pairs))
                for pairs in learned
            ],
        )
    for grade in GRADES:
        share(
            f"planted concept found, {_or_stronger(grade)}",
            [(sum(pair.found(grade) for pair in pairs), len(pairs)) for pairs in learned],
        )
    for place, grade in enumerate(GRADES):
        right = [sum(outcome.hits[place:]) for outcome in planted]
        share(
            f"findings of models with shortcuts that are right, {_or_stronger(grade)}",
            [(n, n + len(alarms(o, grade))) for n, o in zip(right, planted, strict=True)],
        )
    for grade in GRADES:
        counts = [len(alarms(outcome, grade)) for outcome in clean]
        if clean:
            found.append(
                Rate(
                    name=f"false alarms per clean model, {_or_stronger(grade)}",
                    rate=poisson_rate(sum(counts), len(clean)),
                )
            )
        share(
            f"clean models with a false alarm, {_or_stronger(grade)}",
            [(int(count > 0), 1) for count in counts],
        )
        share(
            f"classes of clean models with a false alarm, {_or_stronger(grade)}",
            [(len({a.class_index for a in alarms(o, grade)}), o.classes) for o in clean],
        )
    share(
        "pairs of clean models with p below 0.05 (calibrated: 0.05)",
        [(outcome.null_below, outcome.null_pairs) for outcome in clean],
    )
    return tuple(found)


def _or_stronger(grade: Grade) -> str:
    return grade if grade == GRADES[-1] else f"{grade} or stronger"
