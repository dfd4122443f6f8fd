"""What `docs/extending.md` explains: one short file for each kind of extension."""
