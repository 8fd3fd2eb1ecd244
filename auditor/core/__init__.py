"""What every chapter stands on: statistics, files that survive a crash, names of classes."""
