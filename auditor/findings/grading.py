"""Findings: which class relies on which concept, on what evidence, and how strong it is.

Grades (docs/method.md): `suspected` rests on prototypes and directions, or on photos that do not
suffice for more; `corroborated` adds an association on photos of *other* classes, within each true
class, so that the class's own object cannot explain it, which no experiment contradicts, or a weak
experiment; `confirmed` an experiment that beats its matched control. Both also ask that the class's
own photos, where there are enough, show the concept more than others do: a class hardly learns from
its photos what they do not show. What moves a class all the same may look like its object, or hide
what speaks for the true one (blur, a frame), so that any class rises: that is convicted only where
the photos are known to show it.

A score that stands out of the null is suspected without photos; the first few of each class are put
to the test whether they stand out or not, and are findings where photos convict them. A concept
that means the class, that the user declared expected, or that is not extrinsic is ranked but is no
finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.core.estimates import Estimate
from auditor.evidence.insertion import MATERIAL_LOG_ODDS, Effect
from auditor.record.codes import Grade, TestName
from auditor.record.notes import Caveat
from auditor.record.thresholds import PREVALENT, STRICTER

__all__ = ["Association", "Graded", "Pair"]

# Not all that the probe takes for the concept is it, so of surroundings half the odds' gain is
# asked for.
MATERIAL_AROUND = float(np.log(1.5))


@dataclass(frozen=True)
class Association:
    """An estimate with its p-value, and q over all that were tested in the same way."""

    estimate: Estimate
    p: float
    q: float

    def corroborates(self, q_level: float, material: float = MATERIAL_LOG_ODDS) -> bool:
        """Significant after correction, its whole interval above 0, and material."""
        return self.q < q_level and self.estimate.low > 0 and self.estimate.value >= material


@dataclass(frozen=True)
class Graded:
    """A grade, and the test that it rests on."""

    grade: Grade
    basis: TestName


@dataclass(frozen=True)
class Pair:
    """One class and concept with everything that is known of them.

    Attributes:
        naming: the combined score with its interval over prototypes and the concept's photos.
        null: the same score of random concepts, as control.
        surroundings: log-odds with surroundings that show the concept
            (`auditor.evidence.surroundings`).
        p_model: of the score without what is known of the class's photos alone: a concept that the
            photos show and the model does not point to is no suspicion.
        prevalence: how well the probe's score of the concept tells photos of the class from others.
        degrades: whether drawing the concept alters or hides part of everything, so that it may
            raise a class merely because the model sees too little of the true one.
        sketched: whether the drawing merely stands for something natural: a model may rely on fog
            and not answer to what is drawn for it.
        explains: lesser findings of the class that this one explains.
        row, column: of the class and the concept in the scores.
    """

    class_index: int
    class_name: str
    concept: str
    category: str
    naming: Estimate
    null: Estimate
    p: float
    q: float
    association: Association | None
    effect: Effect | None
    effect_q: float | None
    caveats: tuple[Caveat, ...]
    row: int = 0
    column: int = 0
    alike: tuple[str, ...] = ()
    surroundings: Association | None = None
    prevalence: Association | None = None
    p_model: float = 0.0
    degrades: bool = False
    sketched: bool = False
    explains: tuple[str, ...] = ()

    def grade(self, q_level: float) -> Grade | None:
        """The grade alone, of `graded`."""
        found = self.graded(q_level)
        return None if found is None else found.grade

    def graded(self, q_level: float) -> Graded | None:
        """The strongest grade that the evidence allows; none where nothing speaks for it.

        Of tests that give the same grade it rests on the one with the lowest q.

        An experiment weighs more than an association: where a drawing excludes a material effect,
        the association does not count; where surroundings exclude a material effect, which they can
        only of what lies around the middle, it must be far below the level. *Measured* on
        development classifiers: what was rightly corroborated or confirmed was prevalent with an
        area of 0.76 to 1.00, most of what accused falsely with 0.37 to 0.74. Drawings, of which
        there are many to a class, convict by themselves only where the interval of that area
        excludes less: it did for 96 of 99 right findings by them and 6 of 14 false ones. With few
        photos hardly any does: a score with p far below the level then corroborates, which 27 of 31
        right ones had and 3 of 23 others (12 photos of a class).
        """
        effect, around, seen = self.effect, self.surroundings, self.association
        drawn = effect is not None and self.effect_q is not None and self.effect_q < q_level
        moved = drawn and effect is not None and effect.confirmed
        exceeded = drawn and effect is not None and effect.exceeds
        goes_with = self.prevalent(q_level)
        if self.prevalence is None:
            learnable = surely = not self.degrades
        else:
            learnable = goes_with
            surely = self.prevalence.estimate.low >= PREVALENT
        singled_out = self.p < q_level * STRICTER and self.p_model < q_level
        if moved and surely:
            return Graded("confirmed", "insertion")
        vain = effect is not None and effect.excluded and not exceeded and not self.sketched
        against = vain or (around is not None and around.estimate.high < 0)
        associated = seen is not None and seen.corroborates(q_level) and not against
        excluded = around is not None and around.estimate.high < MATERIAL_AROUND
        upheld = seen is not None and (not excluded or seen.q < q_level * STRICTER)
        transplanted = (
            around is not None
            and around.corroborates(q_level * STRICTER, MATERIAL_AROUND)
            and not (seen is not None and seen.estimate.high < 0)
        )
        convicting: list[TestName] = []
        if associated and upheld and learnable:
            convicting.append("association")
        if goes_with and transplanted:
            convicting.append("surroundings")
        if goes_with and exceeded and (surely or singled_out):
            convicting.append("insertion")
        if convicting:
            return Graded("corroborated", min(convicting, key=self._q))
        named = self.q < q_level and self.p_model < q_level
        hidden = (
            self.degrades
            and self.prevalence is not None
            and self.prevalence.estimate.high < PREVALENT
        )
        if (moved and not hidden) or (exceeded and goes_with):
            return Graded("suspected", "insertion")
        if associated and (not named or self._q("association") < self.q):
            return Graded("suspected", "association")
        return Graded("suspected", "naming") if named else None

    def _q(self, test: TestName) -> float:
        """The q-value of a test on photos that was made."""
        if test == "insertion":
            return 1.0 if self.effect_q is None else self.effect_q
        told = self.association if test == "association" else self.surroundings
        return 1.0 if told is None else told.q

    def prevalent(self, q_level: float) -> bool:
        """Whether photos of the class show the concept more than others, to the probe's eye."""
        return (
            self.prevalence is not None
            and self.prevalence.q < q_level
            and self.prevalence.estimate.value >= PREVALENT
        )
