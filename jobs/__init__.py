"""One module per command: read, call routing, write."""
