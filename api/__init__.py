"""The HTTP door: parse, ask the box office, render."""
