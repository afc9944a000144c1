"""Training: one recipe a file, Python functions returning full configurations."""
