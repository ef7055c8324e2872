"""Benchmarks: ratios within one run, with warm-up, median and spread. `make bench`, or `python -m benchmarks NAME`."""
