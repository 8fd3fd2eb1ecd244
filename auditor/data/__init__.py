"""Data shipped with the package: concept bank, fonts, probe heads, example."""
