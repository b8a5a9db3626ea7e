import getty_tx.a.one
class C:
    def g(self):
        return self._y, super()._z
