"""Side-by-side measurements that anyone can repeat; results in `results.md`."""
