"""The reference shop front: a page for buyers, and the back end of a shop that sells through the API. Knows the API alone."""
