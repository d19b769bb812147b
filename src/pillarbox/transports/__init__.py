"""The ways out: each sends one letter and tells what became of it; none knows forms or rows."""
