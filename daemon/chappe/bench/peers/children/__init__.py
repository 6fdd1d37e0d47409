"""Programs that run in a peer's own Python, where Chappe is not installed: they import nothing of it and load the ledger by its path."""
