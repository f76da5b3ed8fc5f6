"""What shops are told of, in one order: kinds of notices, those of events, their places in the feed, and its reader."""
