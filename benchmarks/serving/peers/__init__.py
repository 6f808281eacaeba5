"""The other sides: each a server that does the same work with the same graph, as its documentation would have it."""
