"""What a paper takes from a race or a judgement: tables with every interval, methods, figures, sources."""
