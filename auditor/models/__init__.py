"""The audited classifier: where it comes from, what it takes, and what is read inside it."""
