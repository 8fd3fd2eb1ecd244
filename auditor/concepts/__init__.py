"""What a class could rely on: the bank of concepts, and the probe that sees them on photos."""
