"""What getty_tx must show when it runs, one module for each subject: ``python -m benchmarks.acceptance``.

Each module prints one line for each of its figures, ``NAME: figure (limit L) ok|FAILED``, and can be run on its
own: ``python -m benchmarks.acceptance.syscalls``. All of it stays on 127.0.0.1, ``cron`` on a simulated clock, is
bounded in count and time, and ends the servers that it starts.
"""
