"""Trains the runs of a plan: one after another, side by side, or many at once with Ray."""
