"""Rows in, rows out: the only floor that speaks SQL; one function is one part of one transaction."""
