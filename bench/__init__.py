"""What is measured, against what, and the command that does it; nothing here is part of the product."""
