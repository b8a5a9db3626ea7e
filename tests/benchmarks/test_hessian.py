"""The benchmark of Hessian."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import hessian


class RowTests(SynchronousTestCase):
    """Rows of its table."""

    def test_rows(self) -> None:
        """Each has the size and four figures, where python-hessian is there; both read the same."""
        self.patch(hessian, "TURN", 0.0001)
        missing = 2 if hessian.protocol is None else 0
        for name, value in hessian.valuesByName().items():
            columns = hessian.row(value, 1).split()
            self.assertEqual(columns.count("-"), missing, name)
            for column in columns:
                if column != "-":
                    self.assertGreaterEqual(float(column), 0, name)
            self.assertEqual(len(columns), 5, name)
