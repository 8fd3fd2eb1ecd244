"""An audit as a sequence of stages, from its configuration to the record."""
