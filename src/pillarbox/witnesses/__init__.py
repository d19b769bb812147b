"""Outside opinions on a message: bounded in time; whoever does not answer makes it held, never lost."""
