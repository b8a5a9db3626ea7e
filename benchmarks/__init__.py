"""Measurements of getty_tx: ``python -m benchmarks`` beside others, ``python -m benchmarks.acceptance`` against limits.

``python -m benchmarks.getty`` has the table beside Getty in Go, ``python -m benchmarks.rpc`` that of calls beside other
ways to make them, ``python -m benchmarks.http`` that of HTTP servers, ``python -m benchmarks.groups`` that of
broadcasts, and ``python -m benchmarks.soak`` looks for what goes wrong when much does.

None of it is installed with the package; both run from a checkout, with getty_tx importable by the running
interpreter, on Linux. Rates depend on the machine, so only ratios from one run say something.
"""
