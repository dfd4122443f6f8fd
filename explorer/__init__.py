"""Reads what the trainer logged to MLflow, judges it by the paper's definition and draws it."""
