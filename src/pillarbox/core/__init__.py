"""The words and rules of a message on its way: pure, without I/O, clock, framework or SQL."""
