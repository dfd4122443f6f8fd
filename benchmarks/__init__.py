"""Side-by-side measurements that anyone can repeat; figures in `results/` and `results.md`."""

import trainer  # noqa: F401  It chooses Keras's backend, which an import of Keras settles.
