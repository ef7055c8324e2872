"""Methods x photos x bands -> records; records -> tables, comparisons and pictures."""
