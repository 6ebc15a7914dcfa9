"""Work shared over processes, when there is enough of it to be worth starting them."""
