"""Bias auditor for image classifiers: prototypes, divergence, concept probes and a report."""

__version__ = "0.1.0"
