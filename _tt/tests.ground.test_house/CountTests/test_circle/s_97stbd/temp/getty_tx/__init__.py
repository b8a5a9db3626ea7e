from getty_tx.a.one import x
