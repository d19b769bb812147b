"""How the schema came to be: each revision only adds; what is to go is removed a release later."""
