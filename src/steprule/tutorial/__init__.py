"""The tutorial's home: its rules that teach, and its own helper names (d2l)."""
