"""The loss over a plane through a run's final weights (figures 4 and 5)."""
