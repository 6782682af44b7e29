"""Metrics that equal the official scorers, one a folder.

`eval/metrics/NAME/__init__.py` has the pure functions, which do without `evaluate` (seconds to import), and
`eval/metrics/NAME/NAME.py` their shell: `evaluate.load("eval/metrics/NAME")` opens a file of just that place. It also
takes the first metric class that it finds there for the metric, so a shell imports its base by module.
"""
