"""Seconds to score random concepts for many classes: at once, and class by class.

    OMP_NUM_THREADS=1 python -m benchmarks.projection [--classes 12 100] [--photos 5000]

Random arrays serve, for speed does not depend on what they hold. Some classes are computed one by
one (`PoolPhotos.directions`), and their time is taken for all. Both are measured in one run:
compare the ratio. The largest difference of the results is shown, in units of their spread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from auditor.evidence.members import PoolPhotos
from auditor.evidence.projection import project
from auditor.evidence.scoring import n_photos

FEATURES, PROBE, CONCEPTS = 1280, 256, 9999
ONE_BY_ONE = 3  # classes


def main() -> None:
    """Print a line for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--classes", type=int, nargs="+", default=[12, 100])
    parser.add_argument("--photos", type=int, default=5000)
    given = parser.parse_args()
    for n_classes in given.classes:
        print(line(n_classes, given.photos), flush=True)


def line(n_classes: int, n: int) -> str:
    """A labelled pool of n photos, dealt out to the classes."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    own = np.arange(n)[:, None] % n_classes == np.arange(n_classes)
    shown = np.zeros((n, 0), bool)
    pool = PoolPhotos(
        normal(n, FEATURES), normal(n, n_classes), normal(n), normal(n, PROBE), shown, own,
        labelled=True,
    )  # fmt: skip
    texts, (prototypes, weights) = normal(CONCEPTS, PROBE), normal(2, n_classes, FEATURES)
    counts = rng.integers(5, n_photos(n, n), CONCEPTS)
    start = time.perf_counter()
    found = project(pool, texts, lambda row: counts, prototypes, weights)
    together = time.perf_counter() - start
    rows = range(min(ONE_BY_ONE, n_classes))
    start, apart = time.perf_counter(), 0.0
    for row in rows:
        made = pool.directions(row, texts, counts, np.zeros((CONCEPTS, 0), np.float32))
        alone = made.vectors @ prototypes[row]
        apart = max(apart, float(np.abs(alone - found.prototypes[row]).max() / alone.std()))
    one_by_one = (time.perf_counter() - start) / len(rows) * n_classes
    return (
        f"{n_classes} classes, {n} photos: {together:.1f} s at once, {one_by_one:.0f} s one by one "
        f"({one_by_one / together:.1f} times), largest difference {apart:.1e}"
    )


if __name__ == "__main__":
    main()
