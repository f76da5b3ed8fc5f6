"""What browsers are given: the files of our pages, and those of npm's packages that they use. No route lives here."""
