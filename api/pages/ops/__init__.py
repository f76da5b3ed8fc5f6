"""The operators' page: HTML, styles and modules for the browser, as they are served. No Python lives here."""
