"""From evidence to findings: screening, tests on photos, grades and coverage."""
