"""The ``twistd`` commands ``getty-echo``, ``getty-serve`` and ``getty-dial``, each with its options and its service."""
