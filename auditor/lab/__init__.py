"""Classifiers with known shortcuts, and how audits of them fare."""
