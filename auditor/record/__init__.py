"""The saved audit: its schema, and whether what it says can be true."""
