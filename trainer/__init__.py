"""Runs lottery-ticket studies: config → plan → runs → MLflow.

Keras runs on torch here; the backend is chosen before anything imports Keras.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
