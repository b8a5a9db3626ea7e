def f(session):
    from getty_tx.c import y
    return session._x
