"""HTTP: the only floor that knows a status code."""
