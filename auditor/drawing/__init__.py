"""Every concept that can be drawn on a photo, each beside a matched control."""
