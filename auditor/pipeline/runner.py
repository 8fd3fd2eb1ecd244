"""The audit from configuration to record: the one place that knows the order of the stages."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.concepts import banks, presence, probes
from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, ImagesError, ResourceError, RunError, lacks_memory
from auditor.evidence import clusters, credibility, divergence
from auditor.evidence.directions import Vocabulary, own_photos
from auditor.evidence.surroundings import DONORS, choose_recipients
from auditor.images import image_set
from auditor.images.image_set import ImageSet
from auditor.images.label_meaning import ClassMatcher
from auditor.models import hardware, loading
from auditor.models.activations import head_weights
from auditor.models.loading import Classifier
from auditor.pipeline import agreement, model_check, run_folder
from auditor.pipeline.observations import (
    GENERIC_PHOTOS,
    INSERTION_PHOTOS,
    Observer,
    path_photos,
    sample,
)
from auditor.pipeline.recording import assemble, read_planted
from auditor.pipeline.results import Results
from auditor.prototypes import generation, parameterisations
from auditor.prototypes.constraints import LEAST_PHOTOS, gather, known_labels, least_left
from auditor.record.schema import Audit

__all__ = ["Progress", "run"]

logger = logging.getLogger(__name__)

LEAST_POOL = 2  # different photos: no direction is learned from one


class Progress(Protocol):
    """Told of each stage and how far it is."""

    def stage(
        self, name: str, total: int
    ) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Begin a stage of `total` steps; the function that is given takes the steps done."""
        ...


class Silent:
    """Progress that nobody watches."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Say nothing."""
        yield lambda done: None


def run(config: AuditConfig, *, progress: Progress | None = None) -> Audit:
    """Audit a classifier, and leave `audit.json` and its pictures in the run folder.

    An audit with another result that was there is kept below `previous`, with all that belongs to
    it.

    Args:
        config: everything that decides the result.
        progress: told of the stages, by default nobody.

    Raises:
        AuditorError: whatever the user can mend, in one sentence.
    """
    if not config.out.strip():
        raise ConfigError("out is empty; name the run folder with --out.")
    out = Path(config.out)
    for photos in (config.images, config.pool):
        if photos is not None and _inside(out, photos):
            raise ConfigError(
                f"out = {out} lies in the photos {photos}, so that its pictures would be taken for "
                "photos; choose another --out."
            )
    with run_folder.locked(out):
        return _Run(config, out, progress or Silent()).audit()


@dataclass
class _Clock:
    """Seconds per stage."""

    seconds: dict[str, float]

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


class _Run:
    def __init__(self, config: AuditConfig, out: Path, progress: Progress) -> None:
        self.config = config
        self.out = out
        self.progress = progress
        self.clock = _Clock({})

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        with self.clock.timed(name), self.progress.stage(name, total) as step:
            try:
                yield step
            except BaseException as error:  # a library in Rust raises what is no Exception
                if not lacks_memory(error):
                    raise
                raise ResourceError(
                    f"The memory ended in the stage {name!r}; set a smaller batch or "
                    "prototypes.batch, audit fewer --classes at once, or give more memory. What "
                    "is finished is kept for the next run."
                ) from None

    def audit(self) -> Audit:
        config = self.config
        started = _now()
        hardware.keep_freed_memory()
        torch.manual_seed(config.seed)
        device = hardware.choose_device(config.device)
        with self.stage("load", 4) as step:
            read_planted(config.planted)  # what is wrong with it is told before the work
            bank = banks.load(config.concepts)
            classifier = loading.load(config.model, device=device)
            hardware.laid_out(classifier.net)
            classes = select_classes(config.classes, classifier)
            expected = settle_expected(config.expected, classifier, bank)
            config = config.model_copy(update={"expected": expected})
            step(1)
            probe = probes.load(config.probe, device=device, trust_code=config.trust_code)
            step(2)
            images = self._images(config.images, classifier, labelled=True)
            step(3)
            pool = (
                images
                if config.pool is None
                else image_set.recognised(
                    self._images(config.pool, classifier, labelled=False), images
                )
            )
            few = model_check.sampled(images)
            classifier, layers = model_check.tried(
                classifier, config.model, few, batch=config.batch
            )
            second = self._second(classifier, classes, few, device)
        if images.labels is None or not len(images):
            raise ImagesError(f"{config.images} holds no photo that could be read.")
        if len(pool) < LEAST_POOL:
            raise ImagesError(
                f"The pool {config.pool or config.images} holds fewer than {LEAST_POOL} different "
                "photos that can be read, and concepts are learned from their differences; give "
                "more."
            )
        remarks = tuple(
            dict.fromkeys((*classifier.remarks, *probe.remarks, *images.remarks, *pool.remarks))
        )
        observer = Observer(classifier, layers, Work(self.out / "work"), config.batch, config.seed)
        rng = np.random.default_rng(config.seed)
        labels = np.array(images.labels)
        on_path = path_photos(labels, classes, rng)
        with self.stage("photos", len(images)) as step:
            seen = observer.photos(images, on_path, step)
        with self.stage("agreement", 1):
            remarks += agreement.check(
                classifier, images, seen.logits, classes,
                seed=config.seed, batch=config.batch, anyway=config.anyway,
            )  # fmt: skip
        with self.stage("pool", len(pool)) as step:
            generic = np.zeros(len(pool), bool)
            generic[sample(len(pool), GENERIC_PHOTOS, rng)] = True
            pooled = observer.photos(pool, generic, step)
        with self.stage("probe", len(images) + len(pool)) as step:
            rows = observer.probed(images, probe, step)
            pool_rows = rows if pool is images else observer.probed(pool, probe, step)
        settings = config.prototypes
        total = len(classes) * settings.per_class * settings.steps
        with self.stage("prototypes", total) as step:
            known = known_labels(images, pool, np.flatnonzero(generic))
            mode = prototype_mode(settings.mode, least_left(known, classes))
            recipe = generation.Recipe(
                mode=mode, parameterisation=coding(settings.parameterisation, mode),
                steps=settings.steps,
                early=settings.early, diversity=settings.diversity, patch=settings.patch,
                compile=settings.compile,
            )  # fmt: skip
            material = gather(
                recipe.mode, classifier, layers, classes, images=images, pool=pool,
                pooled=pooled, generic=generic, batch=config.batch, seed=config.seed,
            )  # fmt: skip
            items = [(c, config.seed + k) for c in classes for k in range(settings.per_class)]
            made = observer.prototypes(
                items, recipe, material, batch=settings.batch, devices=hardware.peers(device),
                step=step,
            )  # fmt: skip
            of_made = observer.of_prototypes(made)
            made_rows = np.concatenate(
                [probe.encode_images(part).cpu().numpy() for part in made.batches(config.batch)]
            )
        regions = None
        if settings.isolate:
            with self.stage("isolation", len(made.images)) as step:
                regions = observer.regions(made, step)
        made_classes = np.array(made.class_indices)
        with self.stage("divergence", 1):
            kept = np.flatnonzero(on_path)
            held_out = ~np.isin(kept, material.used)
            diverged = divergence.compare(
                of_made.path, made_classes,
                {name: values[held_out] for name, values in seen.path.items()},
                labels[kept[held_out]], classes, used=material.layers,
                min_photos=config.statistics.min_photos,
                replicates=config.statistics.bootstrap, seed=config.seed,
            )  # fmt: skip
            apart = credibility.told_apart(
                of_made.path, made_classes,
                {name: values[held_out] for name, values in seen.path.items()},
                labels[kept[held_out]],
                replicates=config.statistics.bootstrap, seed=config.seed,
            )  # fmt: skip
            judged = None if second is None else self._judged(classifier, second, made)
        scale = np.maximum(pooled.features.std(0), 1e-6)
        drawn = [c.drawing for c in bank.concepts if c.drawing is not None]
        with self.stage("drawings", 2 * len(drawn)) as step:
            places = sample(len(pool), INSERTION_PHOTOS, rng)
            canvas = pool.subset(places.tolist())
            canvas_labels = np.array(pool.labels or pooled.logits.argmax(1))[places]
            insertions = observer.insertions(drawn, canvas, scale, step)
            changes = observer.changes(drawn, canvas, probe, lambda n: step(len(drawn) + n))
        recipients = choose_recipients(labels, rng)
        donors = pool.subset(sample(len(pool), DONORS, rng).tolist())
        with self.stage("surroundings", len(donors)) as step:
            around = observer.surroundings(
                images.subset(recipients.tolist()), labels[recipients], donors, classes, step
            )
        with self.stage("naming", 1):
            own = own_photos(probe, pool_rows, pool.labels, classes, classifier.class_names)
            vocabulary = Vocabulary.build(
                bank, probe, observer,
                pool=pool, pooled=pooled, pool_rows=pool_rows, own=own,
                insertions=insertions, canvas_labels=canvas_labels, changes=changes,
                classes=classes, names=classifier.class_names, config=config,
            )  # fmt: skip
            weights = head_weights(classifier, layers, next(made.batches(config.batch)))
            prevalence = functools.partial(
                presence.prevalence, rows, labels, classes, min_photos=config.statistics.min_photos
            )
            named = vocabulary.name(
                per_class(of_made.features, made_classes, classes),
                (weights - weights.mean(0))[list(classes)],
                per_class(made_rows, made_classes, classes),
                prevalence if config.representative else None,
            )  # fmt: skip
        with self.stage("clusters", 1):
            inside = np.flatnonzero(np.isin(labels, classes))
            groups = clusters.group(
                seen.features[inside], labels[inside], of_made.features, seed=config.seed
            )
            scores = presence.presence(rows[inside], vocabulary.texts)
            names = clusters.name_groups(
                groups, scores, vocabulary.tested, q_level=config.statistics.q_level
            )
        with run_folder.staging(self.out) as staged:
            results = Results(
                config=config, out=staged, observer=observer, classifier=classifier,
                classes=classes, bank=bank,
                probe=probe, images=images, pool=pool, labels=labels, seen=seen, rows=rows,
                pooled=pooled, pool_rows=pool_rows, canvas=canvas,
                canvas_labels=canvas_labels, recipe=recipe, material=material, made=made,
                of_made=of_made, regions=regions, apart=apart, judged=judged, diverged=diverged,
                insertions=insertions, around=around, donors=donors, recipients=recipients,
                vocabulary=vocabulary, named=named, groups=groups, group_names=names,
                group_photos=inside, device=device, started=started, remarks=remarks,
            )  # fmt: skip
            with self.stage("findings", 1):
                audit = assemble(results, self.clock.seconds, _now, _packages())
            return self._publish(audit, staged)

    def _publish(self, audit: Audit, staged: Path) -> Audit:
        """Put the record beside its pictures, and both in the place of the audit that was there."""
        earlier, record = None, self.out / run_folder.RECORD
        with contextlib.suppress(RunError):
            earlier = Audit.read(record)
        same = earlier is not None and earlier.same_result(audit)
        if earlier is not None and same and earlier.self_test is not None:
            audit = audit.model_copy(update={"self_test": earlier.self_test})
        audit.write(staged / run_folder.RECORD)
        kept = run_folder.publish(self.out, keep=record.exists() and not same)
        if kept is not None:
            logger.info("The earlier audit in %s is kept in %s.", self.out, kept)
        return audit

    def _judged(
        self, classifier: Classifier, second: Classifier, made: generation.Prototypes
    ) -> tuple[Classifier, credibility.Transfer]:
        """The second model's judgement of the best prototype of each class."""
        best = best_of_each(made)
        images = torch.from_numpy(made.images[best]).permute(0, 3, 1, 2).float() / 255
        return second, credibility.transfer(
            classifier, second, images, [made.class_indices[k] for k in best]
        )

    def _second(
        self, classifier: Classifier, classes: Sequence[int], few: ImageSet, device: torch.device
    ) -> Classifier | None:
        """The model that judges the prototypes, before anything is spent on them."""
        if self.config.second_model is None:
            return None
        second = loading.load(self.config.second_model, device=device)
        if second.digest == classifier.digest:
            raise ConfigError(
                f"second_model = {second.name} has the weights of the audited model; a model that "
                "took no part is needed."
            )
        if not set(classes) & set(credibility.match_classes(classifier, second)):
            raise ConfigError(
                f"second_model = {second.name} has none of the audited classes; give a model with "
                "the same ids or names of classes."
            )
        return model_check.settled(second, few, stated=self.config.second_model.output)

    def _images(self, spec: str, classifier: Classifier, *, labelled: bool) -> ImageSet:
        return image_set.load(
            spec,
            class_names=classifier.class_names,
            class_ids=classifier.class_ids,
            labelled=labelled,
            labels=self.config.labels,
            label_column=self.config.label_column,
            decoding=classifier.preprocess.decoding,
        )


def select_classes(wanted: Sequence[str] | None, classifier: Classifier) -> tuple[int, ...]:
    """Indices of the classes to audit, given by index, folder id or name; by default all.

    Raises:
        ConfigError: a text means no class, or several.
    """
    if wanted is None:
        return tuple(range(len(classifier.class_names)))
    matcher = ClassMatcher(classifier.class_names, classifier.class_ids)
    return tuple(dict.fromkeys(_class_meant(text, matcher, "classes") for text in wanted))


def settle_expected(
    wanted: Mapping[str, Sequence[str]], classifier: Classifier, bank: banks.ConceptBank
) -> dict[str, tuple[str, ...]]:
    """What is expected of classes, by their names; by index where several have the name.

    Raises:
        ConfigError: a class or a concept is unknown, so that nothing would be expected of it, or a
            text means several classes.
    """
    named = {concept.name.casefold() for concept in bank.concepts}
    names = classifier.class_names
    matcher = ClassMatcher(names, classifier.class_ids)
    settled: dict[str, tuple[str, ...]] = {}
    for key, expected in wanted.items():
        index = _class_meant(key, matcher, "expected")
        for concept in expected:
            if concept.casefold() not in named:
                raise ConfigError(
                    f"expected[{key[:80]!r}] names the concept {concept[:80]!r}, which is not "
                    f"among the {len(named)} of the bank; check its spelling."
                )
        for text in (names[index], str(index)):
            bearers = [k for k, name in enumerate(names) if text in (name, str(k))]
            if bearers == [index] and matcher.candidates(text) == {index}:
                settled[text] = settled.get(text, ()) + tuple(expected)
                break
        else:
            raise ConfigError(
                f"expected[{key[:80]!r}] means class {index}, whose name and index are also those "
                "of others; give other names with --class-names."
            )
    return settled


def _class_meant(text: str, matcher: ClassMatcher, setting: str) -> int:
    """The class that a text means, by the rules for folders of photos."""
    classes = sorted(matcher.candidates(text))
    if not classes:
        raise ConfigError(
            f"The model has no class {text[:80]!r}; give {setting} an index from 0 to "
            f"{matcher.count - 1}, a folder id or a name."
        )
    if len(classes) > 1:
        raise ConfigError(
            f"{setting} names {text[:80]!r}, which can mean the classes "
            f"{', '.join(map(str, classes))}; give an index with a leading zero, such as "
            f"0{classes[0]}, or a folder id."
        )
    return classes[0]


def prototype_mode(wanted: str, photos: int) -> generation.Mode:
    """The mode of prototypes: `auto` takes photos where there are enough of them."""
    if wanted == "auto":
        return "natural" if photos >= LEAST_PHOTOS else "data-free"
    return next(mode for mode in generation.MODES if mode == wanted)


def best_of_each(made: generation.Prototypes) -> list[int]:
    """Place of the most probable prototype of each class."""
    best: dict[int, int] = {}
    for k, c in enumerate(made.class_indices):
        if c not in best or made.probabilities[k] > made.probabilities[best[c]]:
            best[c] = k
    return list(best.values())


def coding(wanted: str, mode: generation.Mode) -> parameterisations.Name:
    """The parameterisation of images: `auto` takes pixels for mode `paper`, else Fourier."""
    if wanted == "auto":
        return "pixel" if mode == "paper" else "fourier"
    return next(name for name in parameterisations.NAMES if name == wanted)


def per_class(
    values: NDArray[np.float32], owners: NDArray[np.int64], classes: Sequence[int]
) -> NDArray[np.float32]:
    """Mean of the rows of each class, of shape (C, d)."""
    return np.stack([values[owners == c].mean(0) for c in classes])


def _inside(out: Path, photos: str) -> bool:
    """Whether a run folder is, or is to be made, in a folder of photos."""
    try:
        return os.path.isdir(photos) and out.resolve().is_relative_to(Path(photos).resolve())
    except (OSError, RuntimeError, ValueError):
        return False  # a path that cannot be made, which is told of where it is used


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _packages() -> dict[str, str]:
    names = ("auditor", "torch", "torchvision", "open_clip_torch", "timm", "transformers",
             "scikit-learn", "scipy", "numpy", "pillow", "weasyprint")  # fmt: skip
    found: dict[str, str] = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
