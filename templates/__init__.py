"""Templates of the audit report (Jinja2), loaded by `auditor.report`."""
