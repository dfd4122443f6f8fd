"""Config, plan and schedule of a study: what is to be trained. No torch."""
