"""Grades: how strong the evidence is that a class relies on a concept (docs/method.md, section 7).

- `suspected` needs a score that stands out of the null, or a test on photos that is not enough for
  a higher grade.
- `corroborated` needs an association on photos of *other* classes that no experiment contradicts,
  or a weak experiment. Photos are compared within each true class, so the object of the audited
  class cannot explain an association.
- `confirmed` needs an experiment whose effect is greater than that of its matched control.

The two higher grades also need prevalence, where there are enough photos to measure it: the class's
own photos must show the concept more than other photos do. A model can hardly learn from its
class's photos what they do not show. A concept may raise a class all the same, for one of two
reasons: it looks like the class's object, or it hides the object of the true class, so that any
other class rises (blur, a frame). A concept of the second kind therefore gets a higher grade only
where prevalence is known.

Without photos, only scores that stand out of the null lead to findings. With photos, the first few
concepts of each class are tested whether they stand out or not. A concept that means the class,
that the user declared as expected, or that is not extrinsic is scored, but is never a finding.
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

# The least log-odds by which surroundings must raise a class: odds times 1.5. A drawing must double
# the odds. Surroundings need less because the probe chose the photos, and not all of them really
# show the concept.
MATERIAL_AROUND = float(np.log(1.5))


@dataclass(frozen=True)
class Association:
    """The result of one test of one pair.

    Attributes:
        estimate: a difference of log-odds or, for prevalence, an area under the ROC curve.
        p: p-value.
        q: p-value corrected over all pairs that were put to the same test.
    """

    estimate: Estimate
    p: float
    q: float

    def corroborates(self, q_level: float, material: float = MATERIAL_LOG_ODDS) -> bool:
        """Whether q is below the level, the whole interval above 0, and the value large enough.

        Args:
            q_level: of the false discovery rate, in (0, 1).
            material: the least value that counts, as a difference of log-odds.
        """
        return self.q < q_level and self.estimate.low > 0 and self.estimate.value >= material


@dataclass(frozen=True)
class Graded:
    """A grade, and the test that it rests on (its basis)."""

    grade: Grade
    basis: TestName


@dataclass(frozen=True)
class Pair:
    """A class and a concept with all evidence about them. Evidence that is missing is `None`.

    Attributes:
        class_index, class_name: the class.
        concept, category: name of the concept, and of its category in the bank.
        naming: the score, in standard deviations of the null, with its bootstrap interval.
        null: the scores of random concepts, for comparison.
        p, q: of the score, in (0, 1].
        association: test on photos of other classes, with and without the concept.
        effect, effect_q: of drawing the concept on photos, and its q-value.
        caveats: what a reader must know before believing the finding.
        row, column: of the class and the concept in the scores.
        alike: names of concepts that this audit cannot tell apart from this one.
        surroundings: test of surroundings that show the concept against others that do not
            (`auditor.evidence.surroundings`).
        prevalence: how well the probe's view of the concept tells photos of the class from others.
        p_model: p of the score without the channel prevalence. It must be low too: a concept that
            the class's photos show, but that the model does not point to, is not suspected.
        degrades: whether drawing the concept hides or alters part of the whole photo. It may then
            raise a class only because the model sees too little of the true one.
        sketched: whether the drawing only stands for something natural, such as fog. A model may
            rely on real fog and not react to drawn fog.
        explains: names of weaker findings of the class that this one explains.
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
        """The grade of `graded`, without the test that it rests on."""
        found = self.graded(q_level)
        return None if found is None else found.grade

    def graded(self, q_level: float) -> Graded | None:
        """The strongest grade that the evidence allows, or `None` if nothing speaks for the pair.

        If several tests give the same grade, the one with the lowest q is the basis.

        An experiment weighs more than an association. Where a drawing excludes a material effect,
        the association does not count. Surroundings can exclude an effect only of what lies around
        the middle of a photo. Where they do, the association counts only if its q is far below the
        level (`STRICTER`).

        *Measured* on development classifiers, with prevalence as an area under the ROC curve:

        - It was 0.76 to 1.00 for all that was rightly corroborated or confirmed, and 0.37 to 0.74
          for most of what was wrongly accused.
        - Many drawings are tried for each class, so some may raise it by chance. Alone, a drawing
          counts only if the whole interval of prevalence is at `PREVALENT` or above. This holds for
          96 of 99 right findings by drawings, and for 6 of 14 false ones.
        - With few photos hardly any interval is so narrow. A score with p far below the level may
          then take its place. With 12 photos of a class, 27 of 31 right findings had such a score,
          and 3 of 23 others.

        Args:
            q_level: of the false discovery rate, in (0, 1).
        """
        effect, around, seen = self.effect, self.surroundings, self.association
        significant = effect is not None and self.effect_q is not None and self.effect_q < q_level
        beats_control = significant and effect is not None and effect.confirmed
        raises_class = significant and effect is not None and effect.exceeds
        prevalent = self.prevalent(q_level)
        # could the model learn the concept from the class's photos?
        if self.prevalence is None:
            learnable = surely_learnable = not self.degrades
        else:
            learnable = prevalent
            surely_learnable = self.prevalence.estimate.low >= PREVALENT
        strong_score = self.p < q_level * STRICTER and self.p_model < q_level
        if beats_control and surely_learnable:
            return Graded("confirmed", "insertion")
        # a sketch that changes nothing says little of the natural thing that it stands for
        no_effect = (
            effect is not None and effect.excluded and not raises_class and not self.sketched
        )
        contradicted = no_effect or (around is not None and around.estimate.high < 0)
        associated = seen is not None and seen.corroborates(q_level) and not contradicted
        excluded_around = around is not None and around.estimate.high < MATERIAL_AROUND
        upheld = seen is not None and (not excluded_around or seen.q < q_level * STRICTER)
        transplanted = (
            around is not None
            and around.corroborates(q_level * STRICTER, MATERIAL_AROUND)
            and not (seen is not None and seen.estimate.high < 0)
        )
        convicting: list[TestName] = []
        if associated and upheld and learnable:
            convicting.append("association")
        if prevalent and transplanted:
            convicting.append("surroundings")
        if prevalent and raises_class and (surely_learnable or strong_score):
            convicting.append("insertion")
        if convicting:
            return Graded("corroborated", min(convicting, key=self._q))
        stands_out = self.q < q_level and self.p_model < q_level
        # the drawing raises the class only because it hides the true one
        only_hides = (
            self.degrades
            and self.prevalence is not None
            and self.prevalence.estimate.high < PREVALENT
        )
        if (beats_control and not only_hides) or (raises_class and prevalent):
            return Graded("suspected", "insertion")
        if associated and (not stands_out or self._q("association") < self.q):
            return Graded("suspected", "association")
        return Graded("suspected", "naming") if stands_out else None

    def _q(self, test: TestName) -> float:
        """The q-value of a test on photos; 1 if it was not made."""
        if test == "insertion":
            return 1.0 if self.effect_q is None else self.effect_q
        told = self.association if test == "association" else self.surroundings
        return 1.0 if told is None else told.q

    def prevalent(self, q_level: float) -> bool:
        """Whether photos of the class show the concept more than others, in the probe's view."""
        return (
            self.prevalence is not None
            and self.prevalence.q < q_level
            and self.prevalence.estimate.value >= PREVALENT
        )
