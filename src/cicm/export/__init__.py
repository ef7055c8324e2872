"""A model as one file that runs without this package, and the runtime that fills with such a file without torch."""
