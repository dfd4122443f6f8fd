"""The tracking server, and the names that the trainer and the explorer agree on."""
