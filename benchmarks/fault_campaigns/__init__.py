"""The campaigns of `benchmarks/faults.py`: each strikes runs from outside, and judges them by what is left."""
