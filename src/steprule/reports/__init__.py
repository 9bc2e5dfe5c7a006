"""What a reader sees: style.py (one colour a rule), paths.py (pictures of paths), charts.py and html.py (the page of a race)."""
